"""Servers that are not, or not quite, what jetq hopes to find at a URL, and a memory of what they were told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

__all__ = ["Impostor", "impostor", "pretend_nats"]

Behaviour = Callable[["Impostor", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Impostor:
    """What listens on `port`. `heard` is every byte clients sent, `visits` how many came."""

    def __init__(self) -> None:
        self.port = 0
        self.heard = b""
        self.visits = 0
        self.visit = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def visited(self, times: int) -> None:
        """Return once clients came `times` times; fail after 10 s."""
        async with asyncio.timeout(10.0):
            while self.visits < times:
                self.visit.clear()
                await self.visit.wait()


@asynccontextmanager
async def impostor(behaviour: Behaviour, port: int = 0) -> AsyncIterator[Impostor]:
    """Let `behaviour` handle each connection."""
    self = Impostor()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        self.visit.set()
        self.writers.append(writer)
        try:
            await behaviour(self, reader, writer)
            while data := await reader.read(4096):
                self.heard += data
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    self.port = server.sockets[0].getsockname()[1]
    try:
        yield self
    finally:
        server.close()
        for writer in self.writers:
            writer.close()
        await server.wait_closed()
        await asyncio.sleep(0)  # lets the aborted sockets close


def pretend_nats(*, version: str = "2.15.1", jetstream: bytes = b'{"type":"x"}', **info: object) -> Behaviour:
    """A server that speaks just enough NATS to be connected to: INFO, PONG, echoes, and an answer from JetStream."""

    async def behave(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info_line = {"server_id": "X", "version": version, "headers": True, "max_payload": 1048576, **info}
        writer.write(b"INFO " + json.dumps(info_line).encode() + b"\r\n")
        sids: dict[str, str] = {}
        while line := await reader.readline():
            self.heard += line
            verb, *words = line.decode().split()
            if verb == "PING":
                writer.write(b"PONG\r\n")
            elif verb == "SUB":
                sids[words[0]] = words[-1]
            elif verb == "PUB":
                payload = await reader.readexactly(int(words[-1]) + 2)
                self.heard += payload
                if words[0] == "$JS.API.INFO":
                    writer.write(f"MSG {words[1]} {sids[words[1]]} {len(jetstream)}\r\n".encode() + jetstream + b"\r\n")
                elif words[0] == "garble":
                    writer.write(payload)
                else:
                    pattern = words[0].rpartition(".")[0] + ".*"
                    if pattern in sids:
                        writer.write(f"MSG {words[0]} {sids[pattern]} {len(payload) - 2}\r\n".encode() + payload)

    return behave
