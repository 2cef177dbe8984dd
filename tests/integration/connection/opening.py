"""How opening a connection ends: with one sentence in time, or well."""

from __future__ import annotations

import json
import time

import pytest

from jetq.errors import JetqError, SettingsError
from jetq.jetstream.transport.connection import Connection
from jetq.settings import Settings


async def failure(within: float = 5.0, **settings: object) -> JetqError:
    """How a producer with these settings fails; it must do so in time."""
    started = time.monotonic()
    with pytest.raises(JetqError) as caught:
        await Connection.open(Settings(**settings), name="test")  # type: ignore[arg-type]
    assert time.monotonic() - started < within + 0.5
    assert caught.value.hint or isinstance(caught.value, SettingsError)
    return caught.value


async def works(**settings: object) -> None:
    connection = await Connection.open(Settings(**settings), name="test")  # type: ignore[arg-type]
    try:
        await connection.ping(2.0)
        answer = await connection.request("$JS.API.INFO", timeout=2.0)
        assert "error" not in json.loads(answer.data)
    finally:
        await connection.close()
