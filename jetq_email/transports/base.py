"""The interface that every transport has."""

from __future__ import annotations

from typing import Protocol

from jetq_email.message import Envelope
from jetq_email.outcomes import Sent

__all__ = ["Transport"]


class Transport(Protocol):
    """Hands envelopes over. A transport belongs to the event loop on which it was made."""

    async def send(self, envelope: Envelope) -> Sent:
        """Hand `envelope` over. Raises TransportError if nobody got it this time, or perhaps nobody, and Unsendable if
        nobody ever can."""
        ...

    async def close(self) -> None:
        """Close connections and files. Never raises."""
        ...
