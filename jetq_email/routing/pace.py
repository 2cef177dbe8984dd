"""Mails handed over no faster than a provider or server is to get them, by all workers together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from jetq import JetqError, Records
from jetq_email.errors import AtRate
from jetq_email.message import Envelope
from jetq_email.outcomes import Sent
from jetq_email.running_job import running_job
from jetq_email.suppression import RECORDS
from jetq_email.transports.base import Transport

__all__ = ["Pace", "PacedTransport"]

_log = logging.getLogger("jetq.email")

_AHEAD = 0.5
"""Seconds for which a process takes turns at once: so often it asks the broker, and so much may be lost of them."""

_PATIENCE = 2.0
"""Seconds for which a mail waits here for its turn; longer ones give their slot to others."""

_LAPSE = 0.25
"""Seconds after which a turn that nobody has used is gone: what was not used is not made up for, but for what a busy
process is late."""

_ANSWERS_WITHIN = 2.0
_TRIES = 20
"""How often a process tries to take turns that others take as well."""


class Pace:
    """The turns of all workers at one place, `every` so many seconds. name: of its record, the same for all of them.

    Where the turns stand is one record, which each worker moves on if nobody else has meanwhile. Without an answer of
    the broker, or outside of a job, a process keeps the pace for itself.
    """

    def __init__(self, name: str, every: float) -> None:
        self._name = name
        self._every = every
        self._records = Records(RECORDS)
        self._turns: deque[float] = deque()
        self._taken_until = 0.0
        self._taking = asyncio.Lock()

    async def turn(self) -> float:
        """Take the next turn: the seconds until it comes. Raises AtRate, and takes none, if they are too many."""
        async with self._taking:
            now = self._now()
            while self._turns and self._turns[0] < now - _LAPSE:
                self._turns.popleft()
            if not self._turns:
                await self._take(now)
            return max(self._turns.popleft() - now, 0.0)

    async def _take(self, now: float) -> None:
        """Take the turns of the next half second, one at least."""
        count = max(1, int(_AHEAD / self._every))
        begin = await self._begin(now, count * self._every) if running_job() is not None else None
        if begin is None:
            begin = self._wait_for(self._taken_until, now)
        self._turns.extend(begin + place * self._every for place in range(count))
        self._taken_until = begin + count * self._every

    async def _begin(self, now: float, length: float) -> float | None:
        """When the next `length` seconds begin that are nobody's, and are taken by this; None if nobody answers."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN):
                for _ in range(_TRIES):
                    record = await self._records.aget(self._key)
                    begin = self._wait_for(0.0 if record is None else _read(record.value, now), now)
                    end, version = begin + length, 0 if record is None else record.version
                    ttl = end - now + 60.0  # then nobody has waited for long
                    if await self._records.aput(self._key, b"%.6f" % end, ttl=ttl, expected=version) is not None:
                        return begin
        except (JetqError, TimeoutError) as error:
            if isinstance(error, AtRate):
                raise
            _log.warning("the pace of %s is kept by this worker alone just now: %s", self._name, _told(error))
            return None
        raise AtRate(f"the turns of {self._name} are taken by others", after=_AHEAD)

    def _wait_for(self, until: float, now: float) -> float:
        """Return the later of both, if it is soon."""
        if until - now > _PATIENCE:
            raise AtRate(f"{self._name} has got as many mails as it is to get", after=until - now)
        return max(until, now)

    @property
    def _key(self) -> str:
        return f"pace.{self._name}"

    def _now(self) -> float:
        """Return the broker's time, which all workers share, as far as it is known."""
        known = self._records.now() if running_job() is not None else None
        return time.time() if known is None else known


class PacedTransport:
    """Hands mails to another transport, each when its turn comes."""

    def __init__(self, pace: Pace, to: Transport) -> None:
        self._pace = pace
        self._to = to

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`. Raises AtRate for a mail that would wait too long."""
        wait = await self._pace.turn()
        if wait > 0:
            await asyncio.sleep(wait)
        return await self._to.send(envelope)

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._to.close()


def _read(value: bytes, now: float) -> float:
    """Until when turns are taken. What cannot be read, or is of a day to come, says nothing."""
    try:
        until = float(value)
    except ValueError:
        return 0.0
    return until if until < now + 86400.0 else 0.0


def _told(error: Exception) -> str:
    return error.message if isinstance(error, JetqError) else "the broker does not answer"
