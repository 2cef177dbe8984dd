"""Hands mails over no faster than a provider or server may get them, counted over all workers."""

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
"""Seconds for which a process takes turns at once. It asks the broker once in this time, and when it ends, at most the
turns of this time are lost."""

_PATIENCE = 2.0
"""Seconds that a mail waits here for its turn. A mail with a longer wait gives its slot to another job."""

_LAPSE = 0.25
"""Seconds after which an unused turn is lost. Unused turns are not made up for, except for the delays of a busy
process."""

_ANSWERS_WITHIN = 2.0
_TRIES = 20
"""How often a process tries to take turns while others take turns too."""


class Pace:
    """The turns of all workers at one provider or server: one turn every `every` seconds. name: that of the record, the
    same in all workers.

    One record holds the time until which turns are taken. A worker moves it on if no other worker has moved it
    meanwhile. If the broker does not answer, or outside of a job, a process keeps the pace for itself.
    """

    def __init__(self, name: str, every: float) -> None:
        self._name = name
        self._every = every
        self._records = Records(RECORDS)
        self._turns: deque[float] = deque()
        self._taken_until = 0.0
        self._taking = asyncio.Lock()

    async def turn(self) -> float:
        """Take the next turn, and return the seconds until it comes. Raises AtRate, and takes no turn, if that is too
        long."""
        async with self._taking:
            now = self._now()
            while self._turns and self._turns[0] < now - _LAPSE:
                self._turns.popleft()
            if not self._turns:
                await self._take(now)
            return max(self._turns.popleft() - now, 0.0)

    async def _take(self, now: float) -> None:
        """Take the turns of the next half second, at least one."""
        count = max(1, int(_AHEAD / self._every))
        begin = await self._begin(now, count * self._every) if running_job() is not None else None
        if begin is None:
            begin = self._wait_for(self._taken_until, now)
        self._turns.extend(begin + place * self._every for place in range(count))
        self._taken_until = begin + count * self._every

    async def _begin(self, now: float, length: float) -> float | None:
        """Take the next `length` seconds that nobody else has taken, and return when they begin; None if the broker
        does not answer."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN):
                for _ in range(_TRIES):
                    record = await self._records.aget(self._key)
                    begin = self._wait_for(0.0 if record is None else _read(record.value, now), now)
                    end, version = begin + length, 0 if record is None else record.version
                    ttl = end - now + 60.0  # by then no worker has waited for a long time
                    if await self._records.aput(self._key, b"%.6f" % end, ttl=ttl, expected=version) is not None:
                        return begin
        except (JetqError, TimeoutError) as error:
            if isinstance(error, AtRate):
                raise
            _log.warning("the pace of %s is kept by this worker alone just now: %s", self._name, _told(error))
            return None
        raise AtRate(f"the turns of {self._name} are taken by others", after=_AHEAD)

    def _wait_for(self, until: float, now: float) -> float:
        """Return the later of `until` and `now`. Raises AtRate if it is not soon."""
        if until - now > _PATIENCE:
            raise AtRate(f"{self._name} has got as many mails as it is to get", after=until - now)
        return max(until, now)

    @property
    def _key(self) -> str:
        return f"pace.{self._name}"

    def _now(self) -> float:
        """Return the broker's time, which all workers share, or this machine's time if the broker's is not known."""
        known = self._records.now() if running_job() is not None else None
        return time.time() if known is None else known


class PacedTransport:
    """Hands each mail to another transport when the mail's turn comes."""

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
    """Return the time until which turns are taken. A value that cannot be read, or is a day or more ahead, counts as
    none."""
    try:
        until = float(value)
    except ValueError:
        return 0.0
    return until if until < now + 86400.0 else 0.0


def _told(error: Exception) -> str:
    return error.message if isinstance(error, JetqError) else "the broker does not answer"
