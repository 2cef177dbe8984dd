"""Leaves routes alone for a while if they failed or asked for it, in this process and in the fleet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from jetq_email.errors import ServerBusy, Throttled, TransportError

__all__ = ["Breaker", "Shared"]

_log = logging.getLogger("jetq.email")

_MOST_FAILURES = 3
"""Failures in a row after which a route is left alone."""

_FIRST = 30.0
"""Seconds for which a failing route is left alone the first time. Each further time takes twice as long."""

_LONGEST = 300.0
"""The most seconds for which a failing route is left alone."""

_BUSY = 5.0
"""Seconds for which a route is left alone that wants fewer mails or connections and does not say for how long."""

_SHORTEST = 1.0
"""The least seconds for which a route is left alone that asks for a time."""


class Shared(Protocol):
    """What the processes of a fleet tell each other about routes. Neither method raises: without an answer each process
    relies on what it knows itself."""

    async def left_for(self, route: str) -> float:
        """Return the seconds for which all processes still leave `route` alone; 0.0 if they do not. Called for every
        mail."""
        ...

    async def leave(self, route: str, seconds: float) -> None:
        """Let all processes leave `route` alone for `seconds` from now on, or longer if they already do."""
        ...


class _Standing(Struct):
    """What is known about a route. until: the time, by the clock, from which the route is no longer left alone.

    failures: failures in a row. times: how often the route was left alone for failures since it last took a mail.
    doubted: the route has been left alone, and has taken no mail since. trying: one mail finds out whether the route
    takes mails. throttled: the route wants fewer mails. untold: the fleet does not know about the route's failures.
    """

    until: float = 0.0
    failures: int = 0
    times: int = 0
    doubted: bool = False
    trying: bool = False
    throttled: bool = False
    untold: bool = False


class Breaker:
    """Knows which routes take mails. A route is left alone after some failures in a row. Then one mail tries the route,
    and the others follow if that mail is taken. clock: in seconds.

    The fleet is told at once what a provider has asked for. It is told about failures only when another route has taken
    a mail since: a process that reaches no route has lost its network, and must not stop the other processes.
    """

    def __init__(self, shared: Shared | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._clock = clock
        self._standings: dict[str, _Standing] = {}

    async def admit(self, route: str) -> float:
        """Return 0.0 if a mail may go to `route` now, else the seconds after which to ask again.

        After 0.0 the caller must call `worked`, `failed` or `let_go`.
        """
        standing = self._of(route)
        left = standing.until - self._clock()
        if self._shared is not None:
            left = max(left, await self._shared.left_for(route))
        if left > 0:
            standing.doubted = True
            return left
        if standing.trying:
            return _BUSY
        standing.trying = standing.doubted
        return 0.0

    async def worked(self, route: str) -> None:
        """Note that `route` took a mail, or refused one because of the mail itself."""
        standing = self._of(route)
        if standing.doubted and standing.until <= self._clock():
            _log.info("mail route %s takes mails again", route)
        self._standings[route] = _Standing(until=standing.until, throttled=standing.throttled)
        for name, other in list(self._standings.items()):
            if other.untold:
                other.untold = False
                await self._tell(name, other.until - self._clock())

    def let_go(self, route: str) -> None:
        """Note that the trial of `route` has found out nothing."""
        self._of(route).trying = False

    async def failed(self, route: str, error: TransportError) -> float:
        """Note that `route` failed. Return the seconds for which the route is left alone now; 0.0 if it is not yet left
        alone."""
        standing = self._of(route)
        seconds = self._seconds(standing, error)
        standing.trying = False
        now = self._clock()
        left = standing.until - now
        if seconds > max(left, 0.0):
            standing.until, standing.doubted = now + seconds, True
            if left <= 0:
                _log.warning("mail route %s is left alone for %.0f s: %s", route, seconds, error.message)
            standing.untold = not isinstance(error, Throttled | ServerBusy)
            if isinstance(error, Throttled):
                await self._tell(route, seconds)
        return max(left, seconds, 0.0)

    def is_throttled(self, route: str) -> bool:
        """Return whether `route` is left alone now because it wants fewer mails, from any sender."""
        standing = self._of(route)
        return standing.throttled and standing.until > self._clock()

    async def _tell(self, route: str, seconds: float) -> None:
        if self._shared is not None and seconds > 0:
            await self._shared.leave(route, seconds)

    def _of(self, route: str) -> _Standing:
        return self._standings.setdefault(route, _Standing())

    def _seconds(self, standing: _Standing, error: TransportError) -> float:
        """Return the seconds for which `error` makes the route be left alone."""
        if isinstance(error, Throttled | ServerBusy):
            standing.throttled = isinstance(error, Throttled)
            return _BUSY if error.after is None else max(error.after, _SHORTEST)
        if standing.until > self._clock():
            return 0.0  # a mail that was under way when the route was left alone does not extend that time
        standing.throttled = False
        standing.failures += 1
        if standing.failures < _MOST_FAILURES and not standing.doubted:
            return 0.0
        standing.failures = 0
        standing.times += 1
        return min(_FIRST * 2.0 ** (standing.times - 1), _LONGEST)
