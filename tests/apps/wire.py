"""A NATS connection that writes what it is told, legal or not, past every client library."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

__all__ = ["Answer", "Wire"]

_HELLO = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
_INBOX = b"_INBOX.wire"
_ANSWERED_WITHIN = 5.0


@dataclass(frozen=True)
class Answer:
    """What the server said of a message: stored at `sequence`, or refused for `why`; neither if it never said."""

    sequence: int = 0
    why: str = ""

    @property
    def unknown(self) -> bool:
        return not self.sequence and not self.why


class Wire:
    """One TCP connection. A server that closes it at a frame gets a new one with the next."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def open(cls, url: str) -> Wire:
        wire = cls(url)
        await wire._connect()
        return wire

    def publish(self, subject: str, body: bytes, **headers: bytes) -> None:
        """Write a message with these headers, `_` for `-`, and do not wait for anything. A lone surrogate in the
        subject stands for its byte."""
        assert self._writer is not None
        self._writer.write(
            frame(subject.encode("utf-8", "surrogateescape"), header_block(headers) if headers else None, body)
        )

    def write(self, data: bytes) -> None:
        """Write just this."""
        assert self._writer is not None
        self._writer.write(data)

    async def store(self, subject: bytes, block: bytes | None, body: bytes) -> Answer:
        """Write a message with this header block, or none, and wait for the server's word on it."""
        if self._writer is None:
            await self._connect()
        assert self._writer is not None
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN):
                self._writer.write(frame(subject, block, body, reply=_INBOX))
                return await self._answer()
        except OSError as error:
            return self._hung_up(str(error))
        except TimeoutError:
            return Answer()

    async def close(self) -> None:
        """Once the server has taken all of it."""
        if self._writer is None:
            return
        assert self._reader is not None
        self._writer.write(b"PING\r\n")
        while not (line := await self._reader.readline()).startswith(b"PONG"):
            assert line and not line.startswith(b"-ERR"), line
        self._writer.close()

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._place.hostname, self._place.port)
        await self._reader.readline()
        self._writer.write(_HELLO + b"SUB " + _INBOX + b" 1\r\n")

    async def _answer(self) -> Answer:
        assert self._reader is not None and self._writer is not None
        while line := await self._reader.readline():
            if line.startswith(b"-ERR"):
                return self._hung_up(line.decode("utf-8", "replace").strip())
            if line.startswith(b"PING"):
                self._writer.write(b"PONG\r\n")
            elif line.startswith((b"MSG ", b"HMSG ")):
                said = await self._reader.readexactly(int(line.split()[-1]) + 2)
                return _read(said[:-2])
        return self._hung_up("it hung up")

    def _hung_up(self, why: str) -> Answer:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        return Answer(why=why)


def header_block(headers: dict[str, bytes]) -> bytes:
    """As the protocol has it, but for what stands in the values."""
    lines = b"".join(b"%b: %b\r\n" % (name.replace("_", "-").encode(), value) for name, value in headers.items())
    return b"NATS/1.0\r\n%b\r\n" % lines


def frame(subject: bytes, block: bytes | None, body: bytes, *, reply: bytes = b"") -> bytes:
    """One message in the protocol's words."""
    if block is None:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(block), len(block) + len(body), block, body)


def _read(said: bytes) -> Answer:
    if said.startswith(b"NATS/1.0 503"):
        return Answer(why="nobody listens there")
    try:
        answer = msgspec.json.decode(said, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return Answer(why=f"it is no answer of a stream: {said[:200]!r}")
    if "error" in answer:
        return Answer(why=bytes(answer["error"]).decode())
    if b"true" in bytes(answer.get("duplicate", b"")):
        return Answer(why="its Nats-Msg-Id was there already")
    return Answer(sequence=int(bytes(answer.get("seq", b"0"))), why="" if "seq" in answer else "it waits for a batch")
