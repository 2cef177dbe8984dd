"""Records by which the workers of a fleet tell each other which mail routes to leave alone."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime

from jetq import JetqError, Record, Records
from jetq_email.running_job import running_job
from jetq_email.suppression import RECORDS

__all__ = ["FleetRoutes"]

_log = logging.getLogger("jetq.email")

_FRESH = 2.0
"""Seconds for which an answer of the broker is used, so that the broker is not asked for each mail."""

_LONGEST = 86400.0
"""The most seconds for which a record counts."""

_PATIENCE = 1.0
"""Seconds that a mail waits for the broker's answer."""

_TELLING = 5.0
"""Seconds in which a record must be written. The first record makes the stream."""


class FleetRoutes:
    """Routes that every worker of the app leaves alone. Each is a record that is kept for exactly that time.

    So no two clocks need to agree: a route is left alone as long as its record exists. Outside of a job there may be no
    broker, and then no routes are known.
    """

    def __init__(self) -> None:
        self._records = Records(RECORDS)
        self._until: dict[str, float] = {}
        self._asked: dict[str, float] = {}

    async def left_for(self, route: str) -> float:
        """See `Shared.left_for`."""
        now = time.monotonic()
        if now - self._asked.get(route, -math.inf) >= _FRESH:
            self._asked[route] = now  # a call that comes meanwhile gets the earlier answer
            self._until[route] = now + _left(await self._read(route))
        return max(self._until.get(route, 0.0) - time.monotonic(), 0.0)

    async def leave(self, route: str, seconds: float) -> None:
        """See `Shared.leave`."""
        if _left(await self._read(route)) >= seconds or running_job() is None:
            return
        try:
            async with asyncio.timeout(_TELLING):
                await self._records.aput(_key(route), str(math.ceil(seconds)).encode(), ttl=seconds)
        except (JetqError, TimeoutError) as error:
            _log.warning("the fleet is not told that mail route %s is left alone: %s", route, _told(error))

    async def _read(self, route: str) -> Record | None:
        if running_job() is None:
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._records.aget(_key(route))
        except (JetqError, TimeoutError) as error:
            _log.debug("what the fleet says of mail route %s is not known: %s", route, _told(error))
            return None


def _key(route: str) -> str:
    return f"routes.{route}"


def _left(record: Record | None) -> float:
    """Return the seconds for which an existing record will still exist, as far as the clocks can tell. It is more than
    nothing, and at most the time that the record was written for."""
    if record is None:
        return 0.0
    try:
        whole = float(record.value)
    except ValueError:  # written by a later version of jetq_email
        whole = _FRESH
    if not whole > 0:  # nor nan
        return 0.0
    return min(max(whole - (datetime.now(UTC) - record.at).total_seconds(), _FRESH), whole, _LONGEST)


def _told(error: Exception) -> str:
    return error.message if isinstance(error, JetqError) else "no answer in time"
