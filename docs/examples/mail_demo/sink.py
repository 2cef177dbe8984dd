"""The other end of the demo: an SMTP server as they are in the world, with a ledger of its own.

It takes few connections at once, ends a session after some mails, puts strangers off for a while (greylisting), and has
no mailbox for one of them.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

CONNECTIONS = 5
"""How many it takes at once; a worker opens ten, if it may."""

MAILS = 50
"""How many it takes in one session."""

GREYLISTED = 1.5
"""Seconds for which it puts a stranger off."""


class Sink:
    """An SMTP server on a free port of the loopback interface.

    strangers: addresses put off with 450 for a while. gone: addresses refused with 550, until `mend`. Every accepted
    mail becomes an .eml file in `directory`.
    """

    def __init__(self, directory: Path, *, strangers: set[str], gone: set[str]) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.delivered: Counter[str] = Counter()
        self.put_off: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.sessions = self.most_at_once = self.turned_away = self.ended = 0
        self._strangers = strangers
        self._first_seen: dict[str, float] = {}
        self._gone = set(gone)
        self._files = 0
        self._lock = threading.Lock()
        self.port = _free_port()
        self._controller = _Listening(self, hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> Sink:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

    def mend(self, address: str) -> None:
        """From now on `address` exists."""
        self._gone.discard(address)

    @property
    def mails(self) -> int:
        """How many deliveries were accepted, repeats among them."""
        return sum(self.delivered.values())

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if session.mails == MAILS:
            self.ended += 1
            asyncio.get_running_loop().call_soon(server.transport.close)  # after this reply
            return "421 4.7.0 enough mails for one session"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self._gone:
            self.refused[address] += 1
            return "550 5.1.1 no such mailbox"
        if address in self._strangers:
            now = time.monotonic()
            if now - self._first_seen.setdefault(address, now) < GREYLISTED:
                self.put_off[address] += 1
                return "450 4.2.0 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert message["Message-ID"] and message["Subject"]
        with self._lock:
            self._files += 1
            (self.directory / f"{self._files:05}.eml").write_bytes(envelope.content)
            self.delivered.update(envelope.rcpt_tos)
        session.mails += 1
        return "250 OK"


class _Listening(Controller):
    """Serves each connection by a `_Connection`."""

    def factory(self) -> SMTP:
        return _Connection(self.handler, hostname="sink.example")


class _Connection(SMTP):
    """One connection, turned away if there are enough."""

    open = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sink: Sink = self.event_handler
        _Connection.open += 1
        if _Connection.open > CONNECTIONS:
            sink.turned_away += 1
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(b"421 4.7.0 too many connections, try again later\r\n")
            transport.close()
            return
        sink.sessions += 1
        sink.most_at_once = max(sink.most_at_once, _Connection.open)
        super().connection_made(transport)
        self.session.mails = 0

    def connection_lost(self, error: Exception | None) -> None:
        _Connection.open -= 1
        if self.session is not None:
            super().connection_lost(error)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
