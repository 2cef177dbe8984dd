"""Writes mails as .eml files, which any mail program opens."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from jetq_email.errors import TransportError
from jetq_email.message import Envelope
from jetq_email.outcomes import Sent

__all__ = ["FileTransport"]


class FileTransport:
    """Writes `<job id>.eml` into `directory`. A repeat of a mail replaces its file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def send(self, envelope: Envelope) -> Sent:
        """Write `envelope`, with its recipients in an `X-Envelope-To` line. Raises TransportError."""
        try:
            await asyncio.to_thread(self._write, envelope)
        except OSError as error:
            raise TransportError(f"cannot write to the outbox {self._directory}: {error.strerror}") from None
        return Sent(envelope.recipients)

    async def close(self) -> None:
        """Do nothing: no file is open."""

    def _write(self, envelope: Envelope) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9_-]", "+", envelope.job_id)
        target = self._directory / f"{name}.eml"
        partial = target.with_suffix(f".{os.getpid()}.part")
        to = ", ".join(envelope.recipients).encode()
        partial.write_bytes(b"X-Envelope-To: " + to + b"\r\n" + envelope.message)
        partial.replace(target)  # in one step, so that a program that watches the directory sees only whole mails
