"""A connection that keeps what it heard, and a peer that writes frames as no client would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jetq.jetstream.transport.connection import Connection
from jetq.jetstream.transport.message import Message
from jetq.settings import Settings


class Watched:
    """A connection, the messages on `test.>`, and how often it was lost and came back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.got: list[Message] = []
        self.ups = 0
        self.downs = 0
        self.changed = asyncio.Event()

    @property
    def data(self) -> list[bytes]:
        return [msg.data for msg in self.got]

    async def start(self) -> None:
        self.connection.on_up(self._up)
        self.connection.on_down(self._down)
        await self.connection.subscribe("test.>", self._message)
        await self.connection.ping(5.0)

    async def until(self, holds: Callable[[Watched], bool], within: float) -> None:
        async with asyncio.timeout(within):
            while not holds(self):
                self.changed.clear()
                await self.changed.wait()

    def _up(self) -> None:
        self.ups += 1
        self.changed.set()

    def _down(self) -> None:
        self.downs += 1
        self.changed.set()

    def _message(self, msg: Message) -> None:
        self.got.append(msg)
        self.changed.set()


@asynccontextmanager
async def watched(url: str, *, patient: bool = False, **settings: object) -> AsyncIterator[Watched]:
    """A connection to `url`, closed at the end, in time and without leaving a task behind."""
    before = asyncio.all_tasks()
    all_settings = Settings(servers=(url,), **settings)  # type: ignore[arg-type]
    self = Watched(await Connection.open(all_settings, name="test", patient=patient))
    await self.start()
    try:
        yield self
    finally:
        await self.connection.close()
        assert not [task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task)]


async def tell(url: str, *frames: bytes, login: bytes = b'"user":""') -> None:
    """Write protocol frames as no client library would, and have the server read them."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    hello = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,%s}\r\n' % login
    writer.write(hello + b"".join(frames) + b"PING\r\n")
    while (line := await reader.readline()) != b"PONG\r\n":
        assert line.startswith(b"INFO"), line
    writer.close()
    await writer.wait_closed()
