"""The one interface of whatever a mail is handed to."""

from __future__ import annotations

from typing import Protocol

from jetq_email.message import Envelope
from jetq_email.outcomes import Sent

__all__ = ["Transport"]


class Transport(Protocol):
    """Hands envelopes over. Belongs to the event loop it was made on."""

    async def send(self, envelope: Envelope) -> Sent:
        """Hand `envelope` over. Raises TransportError if it was not, or not surely, handed to anybody this time, and
        Unsendable if it never can be."""
        ...

    async def close(self) -> None:
        """Let go of connections and files. Never raises."""
        ...
