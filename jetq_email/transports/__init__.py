"""Where mails go: one small interface, and the one that a process's settings choose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol
from weakref import WeakKeyDictionary

from msgspec import Struct

from jetq_email.message import Envelope
from jetq_email.settings import Settings, TransportName

__all__ = ["Refusal", "Sent", "Transport", "transport_for"]


_WANTS_LOGIN = (530, 534, 538)
"""RFC 4954 6, and 3.1 of RFC 3207, which wants STARTTLS first."""


class Refusal(Struct, frozen=True):
    """One recipient a server would not take, and its reply. A 4xx may pass later. A 5xx will not, unless it says that
    the worker has to log in, which is no fault of the mail."""

    recipient: str
    code: int
    reply: str

    @property
    def permanent(self) -> bool:
        """Whether the server says that trying again is no use."""
        return self.code >= 500 and self.code not in _WANTS_LOGIN


class Sent(Struct, frozen=True):
    """What became of one envelope: who has the mail, and who was refused."""

    delivered: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()


class Transport(Protocol):
    """Hands envelopes over. Belongs to the event loop it was made on."""

    async def send(self, envelope: Envelope) -> Sent:
        """Hand `envelope` over. Raises TransportError if it was not, or not surely, handed to anybody this time, and
        Unsendable if it never can be."""
        ...

    async def close(self) -> None:
        """Let go of connections and files. Never raises."""
        ...


_open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, tuple[Transport, AsyncGenerator[None, None]]]] = (
    WeakKeyDictionary()
)


async def transport_for(settings: Settings) -> Transport:
    """The running loop's transport with these settings, made at first use and closed with the loop.

    Raises SettingsError if no transport is configured.
    """
    transports = _open.setdefault(asyncio.get_running_loop(), {})
    if settings not in transports:
        transport = _make(settings.chosen_transport, settings)
        closer = _close_with_loop(transport)
        await closer.__anext__()
        transports[settings] = transport, closer
    return transports[settings][0]


def _make(name: TransportName, settings: Settings) -> Transport:
    if name == "smtp":
        from jetq_email.transports.smtp import SmtpTransport  # needs aiosmtplib, which the others do not

        return SmtpTransport(settings)
    if name == "file":
        from jetq_email.transports.file import FileTransport

        return FileTransport(settings.outbox)
    if name == "console":
        from jetq_email.transports.console import ConsoleTransport

        return ConsoleTransport()
    from jetq_email.transports.memory import MemoryTransport

    return MemoryTransport()


async def _close_with_loop(transport: Transport) -> AsyncGenerator[None, None]:
    """Suspended until its loop shuts down its asynchronous generators, as `asyncio.run` does at the end."""
    try:
        yield
    finally:
        await transport.close()
