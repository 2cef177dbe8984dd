"""The other end of the demo: an SMTP server that takes mails, refuses some, and keeps a ledger of its own."""

from __future__ import annotations

import email
import email.policy
import socket
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller


class Sink:
    """An SMTP server on a free port of the loopback interface.

    busy: addresses refused once with 450, as a server does that is out of room. gone: addresses refused with 550, until
    `mend`. Every accepted mail becomes an .eml file in `directory`.
    """

    def __init__(self, directory: Path, *, busy: set[str], gone: set[str]) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.delivered: Counter[str] = Counter()
        self.put_off: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._busy = busy
        self._gone = set(gone)
        self._files = 0
        self._lock = threading.Lock()
        self.port = _free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

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

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self._gone:
            self.refused[address] += 1
            return "550 5.1.1 no such mailbox"
        if address in self._busy and not self.put_off[address]:
            self.put_off[address] += 1
            return "450 4.2.1 mailbox busy, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert message["Message-ID"] and message["Subject"]
        with self._lock:
            self._files += 1
            (self.directory / f"{self._files:05}.eml").write_bytes(envelope.content)
            self.delivered.update(envelope.rcpt_tos)
        return "250 OK"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
