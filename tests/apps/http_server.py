"""An HTTP server on loopback that answers as it is told, late, or not at all, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from msgspec import Struct, field, json

__all__ = ["CUT", "SILENT", "Answering", "Asked", "HttpServer", "Told", "serving_http"]


class Asked(Struct, frozen=True):
    """One request. The names of its headers are in small letters."""

    path: str
    headers: Mapping[str, str]
    content: bytes


class Told(Struct, frozen=True):
    """One response, which is given `after` so many seconds."""

    status: int = 200
    content: object = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0

    def encoded(self) -> bytes:
        content = self.content if isinstance(self.content, bytes) else json.encode(self.content)
        headers = {"content-length": str(len(content)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} told", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + content


CUT = Told(0)
"""In place of a response: the connection is closed after the request."""

SILENT = Told(after=3600)
"""The connection stands, and no response comes."""

Answering = Callable[[Asked], Told]


class HttpServer:
    """asked: the requests so far. answering: what each is told. connections, peak: those there were, and at once."""

    def __init__(self, answering: Answering, scheme: str = "http") -> None:
        self.answering = answering
        self.scheme = scheme
        self.asked: list[Asked] = []
        self.connections = self.peak = 0
        self.serving: set[asyncio.Task[None] | None] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        here: asyncio.Task[None] | None = asyncio.current_task()
        self.serving.add(here)
        self.connections += 1
        self.peak = max(self.peak, len(self.serving))
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (told := await self._one(reader)) is not CUT:
                await asyncio.sleep(told.after)
                writer.write(told.encoded())
                await writer.drain()
        self.serving.remove(here)
        writer.close()

    async def _one(self, reader: asyncio.StreamReader) -> Told:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(first.split()[1], headers, content)
        self.asked.append(asked)
        return self.answering(asked)


@asynccontextmanager
async def serving_http(answering: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpServer]:
    """A context in which a server that answers so is at `url`."""
    server = HttpServer(answering, "http" if tls is None else "https")
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(server.serving):
            if task is not None:
                task.cancel()
