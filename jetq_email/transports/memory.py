"""Mails kept in this process, for tests."""

from __future__ import annotations

from jetq_email.message import Envelope
from jetq_email.outcomes import Sent

__all__ = ["OUTBOX", "MemoryTransport"]

OUTBOX: list[Envelope] = []
"""Every mail sent through this transport in this process, oldest first. Clear it between tests."""


class MemoryTransport:
    """Appends to OUTBOX."""

    async def send(self, envelope: Envelope) -> Sent:
        """Keep `envelope`."""
        OUTBOX.append(envelope)
        return Sent(envelope.recipients)

    async def close(self) -> None:
        """Nothing is open."""
