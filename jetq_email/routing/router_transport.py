"""Hands mails to one of several routes, and to the next route if that one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from msgspec.structs import replace

from jetq_email.errors import AtRate, OutcomeUnknown, ServerBusy, Throttled, TransportError, Unsendable
from jetq_email.message import Envelope
from jetq_email.outcomes import Sent
from jetq_email.redaction import without_addresses
from jetq_email.routing.breaker import Breaker
from jetq_email.routing.routes import Route, Router, in_turn
from jetq_email.transports.base import Transport

__all__ = ["RouterTransport"]

_SOON = 1.0
"""Seconds after which a route at its rate is asked again, if its error gives no time."""


class RouterTransport:
    """Hands mails to the routes of `router`. transports: the routes' transports by the names of the routes."""

    def __init__(self, router: Router, transports: Mapping[str, Transport], breaker: Breaker | None = None) -> None:
        self._router = router
        self._transports = transports
        self._breaker = Breaker() if breaker is None else breaker

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`. If a route fails, the next route is tried. If a route may have the mail, no other is
        tried, unless the router allows duplicates; OutcomeUnknown says so.

        If every route for this mail is left alone now, raises Throttled if all routes want fewer mails, else
        ServerBusy.
        """
        failed: list[TransportError] = []
        waits: list[float] = []
        at_rate: set[str] = set()
        for place, route in enumerate(self._turns(envelope)):
            wait = await self._breaker.admit(route.name)
            if wait > 0:
                waits.append(wait)
                continue
            try:
                return await self._send_by(route, envelope)
            except Unsendable:
                if place == 0:
                    raise
                # The first route may take a mail that a route tried in its place cannot send.
            except AtRate as error:  # the route itself is not at fault
                self._breaker.let_go(route.name)
                at_rate.add(route.name)
                waits.append(_SOON if error.after is None else error.after)
            except (ServerBusy, Throttled) as error:
                waits.append(await self._breaker.failed(route.name, error))
            except asyncio.CancelledError:
                if self._router.allow_duplicates:
                    raise
                raise _cut_off(route) from None  # the job keeps the route: its worker ends, or its time is over
            except TransportError as error:
                await self._breaker.failed(route.name, error)
                if isinstance(error, OutcomeUnknown) and not self._router.allow_duplicates:
                    error.via = route.name
                    raise
                failed.append(error)
        if failed:
            raise failed[0]
        raise self._busy(min(waits), at_rate)

    async def close(self) -> None:
        """Close the transports of all routes. Never raises."""
        await asyncio.gather(*(each.close() for each in self._transports.values()))

    def _turns(self, envelope: Envelope) -> list[Route]:
        """Return the routes to try, in order."""
        if envelope.via is None or self._router.allow_duplicates:
            turns = in_turn(self._router, envelope)
            if not turns:
                raise TransportError(
                    f"no route takes mails from {envelope.fields.sender.domain} with the tag {envelope.fields.tag}",
                    hint="give the Router a route without domains and tags, or a fallback; the mail is tried again",
                )
            return turns
        turns = [each for each in self._router.all if each.name == envelope.via]
        if not turns:
            raise Unsendable(
                f"route {envelope.via} may have this mail already, and there is no such route any more",
                hint="`jetq dlq edit` with via=null sends it by another, and whoever has it gets it twice",
            )
        return turns

    async def _send_by(self, route: Route, envelope: Envelope) -> Sent:
        try:
            sent = await self._transports[route.name].send(envelope)
        except TransportError:
            raise
        except BaseException:
            self._breaker.let_go(route.name)
            raise
        if not sent.delivered and sent.refused and all(each.of_account for each in sent.refused):
            refusal = sent.refused[0]
            raise TransportError(
                f"route {route.name} does not take this worker: {refusal.code} {without_addresses(refusal.reply)}",
                hint="its login, key or account is not in order; the mail is tried again",
            )
        await self._breaker.worked(route.name)
        return replace(sent, via=route.name)

    def _busy(self, wait: float, at_rate: Collection[str]) -> TransportError:
        names = ", ".join(each.name for each in self._router.all)
        if all(each.name in at_rate or self._breaker.is_throttled(each.name) for each in self._router.all):
            kind = AtRate if at_rate else Throttled
            return kind(f"all mail routes want fewer mails: {names}", after=wait)
        return ServerBusy(f"the mail routes that take this mail are left alone just now, of {names}", after=wait)


def _cut_off(route: Route) -> OutcomeUnknown:
    error = OutcomeUnknown(f"the mail was cut off as it was handed over by route {route.name}: it may have arrived")
    error.via = route.name
    return error
