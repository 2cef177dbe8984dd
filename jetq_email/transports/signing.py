"""Signs mails on their way to a transport that hands them over unchanged."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from jetq_email.dkim import Signer
from jetq_email.message import Envelope
from jetq_email.outcomes import Sent
from jetq_email.transports.base import Transport

__all__ = ["SigningTransport"]

_LARGE = 100_000
"""Octets of a mail. A larger mail is signed in a thread, because it would block the event loop for some two
milliseconds."""


class SigningTransport:
    """Signs each mail once, and hands it to another transport."""

    def __init__(self, signer: Signer, to: Transport) -> None:
        self._signer = signer
        self._to = to

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`."""
        message, plain = envelope.message, envelope.without_utf8
        signed = await self._signed(message)
        if plain is not None:
            plain = signed if plain == message else await self._signed(plain)
        return await self._to.send(replace(envelope, message=signed, without_utf8=plain))

    async def _signed(self, message: bytes) -> bytes:
        if len(message) <= _LARGE:
            return self._signer.sign(message)
        return await asyncio.to_thread(self._signer.sign, message)

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._to.close()
