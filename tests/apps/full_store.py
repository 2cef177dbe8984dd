"""A broker without room: its whole store taken by another stream, or a stream that takes nothing more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.js.errors
from nats.js.client import JetStreamContext

__all__ = ["SMALL_STORE", "full_store", "full_stream"]

SMALL_STORE = "jetstream {{ store_dir: {store}, max_file_store: 8MB }}"
"""Configuration of a server whose store is soon full; to be formatted with a path in quotes."""


@asynccontextmanager
async def full_store(url: str) -> AsyncIterator[None]:
    """While another stream has all the space of the server."""
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        await js.add_stream(name="FILL", subjects=["fill"])
        await _fill(js, 256 * 1024)
        await _fill(js, 64)
        yield
        await js.delete_stream("FILL")
    finally:
        await client.close()


async def _fill(js: JetStreamContext, size: int) -> None:
    try:
        while True:
            await js.publish("fill", bytes(size))
    except nats.js.errors.ServiceUnavailableError:
        pass


@asynccontextmanager
async def full_stream(url: str, name: str) -> AsyncIterator[None]:
    """While a stream refuses what is new because it has its limit of bytes."""
    client = await nats.connect(url)

    async def ask(verb: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        answer = json.loads((await client.request(f"$JS.API.STREAM.{verb}.{name}", data)).data)
        assert "error" not in answer, answer
        return answer

    try:
        config = (await ask("INFO"))["config"]
        await ask("UPDATE", {**config, "discard": "new", "max_bytes": 200})
        yield
        await ask("UPDATE", config)
    finally:
        await client.close()
