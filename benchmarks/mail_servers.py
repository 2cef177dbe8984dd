"""Who takes mails in `benchmarks.mail`: a provider or a mail server that says yes to all, in a process of its own.

`python -m benchmarks.mail_servers http` prints its port, and when its input ends what it took, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

__all__: list[str] = []

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_RECIPIENT = re.compile(rb"u(\d+)@example\.com")
_ANSWER = b'{"ErrorCode":0,"Message":"OK","MessageID":"m-1","MessageId":"m-1","id":"m-1"}'
_TAKEN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER


class Ledger:
    """Who got a mail, and when the second and the last were taken."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.first = self.last = 0.0

    def note(self, text: bytes) -> None:
        """One mail, for the first recipient that `text` names."""
        found = _RECIPIENT.search(text)
        assert found is not None
        self.taken.append(int(found[1]))
        self.last = time.monotonic()
        if len(self.taken) == 2:  # the one before shows that the worker is up
            self.first = self.last

    def told(self) -> str:
        """All of it."""
        return json.dumps(
            {"taken": len(self.taken), "distinct": len(set(self.taken)), "seconds": self.last - self.first}
        )


LEDGER = Ledger()


class Http(asyncio.Protocol):
    """A provider: every request is a mail."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.left = b""

    def data_received(self, data: bytes) -> None:
        self.left += data
        while (end := self.left.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self.left, 0, end)
            length = end + 4 + (0 if found is None else int(found[1]))
            if len(self.left) < length:
                return
            LEDGER.note(self.left[end:length])
            self.left = self.left[length:]
            self.transport.write(_TAKEN)


class Smtp(asyncio.Protocol):
    """A mail server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.left = b""
        self.is_content = False
        self.recipient = b""
        transport.write(b"220 here\r\n")

    def data_received(self, data: bytes) -> None:
        self.left += data
        while (end := self.left.find(b"\r\n.\r\n" if self.is_content else b"\r\n")) >= 0:
            line, self.left = self.left[:end], self.left[end + (5 if self.is_content else 2) :]
            self.transport.write(self._answer(line))

    def _answer(self, line: bytes) -> bytes:
        if self.is_content:
            self.is_content = False
            LEDGER.note(self.recipient)
            return b"250 taken\r\n"
        if line.startswith(b"RCPT"):
            self.recipient = line
        self.is_content = line.startswith(b"DATA")
        return b"354 go on\r\n" if self.is_content else b"250 here\r\n"


async def serve(kind: str) -> None:
    """Take mails until the input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Http if kind == "http" else Smtp, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(LEDGER.told(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
