"""Keeps mails in this process, for tests."""

from __future__ import annotations

from jetq_email.message import Envelope
from jetq_email.outcomes import Sent

__all__ = ["OUTBOX", "MemoryTransport"]

OUTBOX: list[Envelope] = []
"""All mails that this process sent through this transport, oldest first. Clear the list between tests."""


class MemoryTransport:
    """Appends each mail to OUTBOX."""

    async def send(self, envelope: Envelope) -> Sent:
        """Append `envelope` to OUTBOX."""
        OUTBOX.append(envelope)
        return Sent(envelope.recipients)

    async def close(self) -> None:
        """Do nothing: nothing is open."""
