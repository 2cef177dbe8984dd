"""Opens the transport that a process's settings choose, or several by routes, once per event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

from jetq_email.dkim_keys import signer_for
from jetq_email.providers import PROVIDERS, Provider
from jetq_email.rates import interval
from jetq_email.routing.routes import Smtp, check_route, router_of
from jetq_email.settings import Settings
from jetq_email.transports.base import Transport

__all__ = ["check_transport", "transport_for"]

_SIGNED = ("smtp", "file")
"""The transports that hand over a mail unchanged, so that jetq_email signs it."""

_open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, tuple[Transport, AsyncGenerator[None, None]]]] = (
    WeakKeyDictionary()
)


async def transport_for(settings: Settings) -> Transport:
    """Return the running loop's transport for these settings. It is made at first use and closed with the loop.

    Raises SettingsError if no transport is configured.
    """
    transports = _open.setdefault(asyncio.get_running_loop(), {})
    if settings not in transports:
        transport = _make(settings)
        closer = _close_with_loop(transport)
        await closer.__anext__()
        transports[settings] = transport, closer
    return transports[settings][0]


def check_transport(settings: Settings) -> None:
    """Raise SettingsError if there is no transport, or if a route is not set up. Opens nothing."""
    router = router_of(settings)
    if router is None:
        _ = settings.chosen_transport
    else:
        for route in router.all:
            check_route(route, settings)


def _make(settings: Settings) -> Transport:
    router = router_of(settings)
    if router is None:
        return _through(settings.chosen_transport, settings)
    from jetq_email.routing.breaker import Breaker
    from jetq_email.routing.fleet import FleetRoutes
    from jetq_email.routing.router_transport import RouterTransport

    transports = {route.name: _through(route.through, settings, route.name) for route in router.all}
    return RouterTransport(router, transports, Breaker(FleetRoutes()))


def _through(way: Smtp | Provider | str, settings: Settings, route: str = "") -> Transport:
    """Return the transport for `way`, at its pace. All workers keep that pace together, by the name of the route."""
    if isinstance(way, str):
        if way in PROVIDERS:
            return _through(settings.provider(way), settings, route)
        return _signing(way, _named(way, settings), settings)
    if isinstance(way, Smtp):
        return _paced(_through("smtp", way.within(settings)), way.rate, route or way.name)
    from jetq_email.transports.http import HttpTransport

    return _paced(HttpTransport(way, settings), getattr(way, "rate", None), route or way.name)


def _paced(transport: Transport, rate: str | None, name: str) -> Transport:
    if rate is None:
        return transport
    from jetq_email.routing.pace import Pace, PacedTransport

    return PacedTransport(Pace(name, interval(rate)), transport)


def _named(name: str, settings: Settings) -> Transport:
    """Return the transport called `name`, which is not a provider."""
    if name == "smtp":  # each module is imported only when needed, because its libraries may not be installed
        from jetq_email.transports.smtp import SmtpTransport

        return SmtpTransport(settings)
    if name == "file":
        from jetq_email.transports.file import FileTransport

        return FileTransport(settings.outbox)
    if name == "console":
        from jetq_email.transports.console import ConsoleTransport

        return ConsoleTransport()
    from jetq_email.transports.memory import MemoryTransport

    return MemoryTransport()


def _signing(name: str, transport: Transport, settings: Settings) -> Transport:
    """Return `transport` with signing, if the settings have a key. Mails to a provider are signed by the provider."""
    signer = signer_for(settings) if name in _SIGNED else None
    if signer is None:
        return transport
    from jetq_email.transports.signing import SigningTransport

    return SigningTransport(signer, transport)


async def _close_with_loop(transport: Transport) -> AsyncGenerator[None, None]:
    """Wait until the loop shuts down its asynchronous generators, as `asyncio.run` does at its end; then close."""
    try:
        yield
    finally:
        await transport.close()
