"""An HTTP server on loopback that answers as it is told, or not at all, and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from msgspec import Struct, field, json

__all__ = ["CUT", "Answering", "Asked", "HttpServer", "Told", "serving_http"]


class Asked(Struct, frozen=True):
    """One request. The names of its headers are in small letters."""

    path: str
    headers: Mapping[str, str]
    content: bytes


class Told(Struct, frozen=True):
    """One response."""

    status: int = 200
    content: object = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        content = self.content if isinstance(self.content, bytes) else json.encode(self.content)
        headers = {"content-length": str(len(content)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} told", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + content


CUT = Told(0)
"""In place of a response: the connection is closed after the request."""

Answering = Callable[[Asked], Told]


class HttpServer:
    """asked: the requests so far. answering: what each is told."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.asked: list[Asked] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while (told := await self._one(reader)) is not CUT:
                writer.write(told.encoded())
                await writer.drain()
        writer.close()

    async def _one(self, reader: asyncio.StreamReader) -> Told:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(first.split()[1], headers, content)
        self.asked.append(asked)
        return self.answering(asked)


@asynccontextmanager
async def serving_http(answering: Answering) -> AsyncIterator[HttpServer]:
    """A context in which a server that answers so is at `url`."""
    server = HttpServer(answering)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
