"""Mails signed on their way to a transport that hands them over as they are."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from jetq_email.dkim import Signer
from jetq_email.message import Envelope
from jetq_email.transports.outcomes import Sent, Transport

__all__ = ["SigningTransport"]

_LARGE = 100_000
"""Octets of a mail, above which the event loop does not wait until it is signed: some two milliseconds."""


class SigningTransport:
    """Signs each mail once, and hands it to another transport."""

    def __init__(self, signer: Signer, to: Transport) -> None:
        self._signer = signer
        self._to = to

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`."""
        if len(envelope.message) <= _LARGE:
            message = self._signer.sign(envelope.message)
        else:
            message = await asyncio.to_thread(self._signer.sign, envelope.message)
        return await self._to.send(replace(envelope, message=message))

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._to.close()
