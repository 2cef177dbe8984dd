"""The times at which jobs of a rate may start: workers take times from one cell, each time once, evenly spread."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import msgspec

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.errors import BrokerError
from jetq.model.bounds import LATEST
from jetq.model.definitions.rate import Rate
from jetq.worker.limits.shared_cell import TRIES, SharedCell

__all__ = ["RateSchedule"]

_TAKEN_AHEAD = 0.25
"""Seconds for which a worker takes times ahead. So no time passes unused while the worker asks for more, and few times
are lost with the worker."""

_STALE_AFTER = 1.0
"""Seconds after which an unused time is lost, because a later use would make a burst. For a slow rate an unused time is
lost after a tenth of the time between two starts, if that is longer."""

_ASK_WITHIN = 60.0
"""The longest number of seconds until a worker looks again, however far in the future the next time is stored to be."""

_decode = msgspec.json.Decoder(float).decode


class _Broker(Cells, Clock, Protocol):
    """The parts of the broker that a rate schedule uses."""


class RateSchedule:
    """Times of start for the jobs of one gate, as many as `rate` allows. The cell `name` holds the first time that no
    worker has taken, in unix seconds of the broker."""

    def __init__(self, broker: _Broker, name: str, rate: Rate) -> None:
        self._broker = broker
        self._rate = rate
        self._first_free = SharedCell(broker, name, _decode_time, 0.0)
        self._taken: deque[float] = deque()
        self._ask_at = 0.0

    @property
    def taken(self) -> tuple[float, ...]:
        """The times that this worker has taken and not used, in unix seconds, earliest first."""
        return tuple(self._taken)

    @property
    def ready(self) -> int:
        """How many jobs may start now."""
        now = self._broker.now()
        while self._taken and self._taken[0] < now - max(_STALE_AFTER, self._rate.every / 10):
            self._taken.popleft()
        return sum(1 for each in self._taken if each <= now)

    @property
    def soon(self) -> int:
        """How many jobs could start in the next 0.5 s if this worker took every time."""
        return int(2 * _TAKEN_AHEAD / self._rate.every) + 1

    def use(self) -> None:
        """Spend the earliest time on a job that starts."""
        self._taken.popleft()

    def seconds_until(self, waiting: int) -> float:
        """Return the seconds until the next of `waiting` jobs may start, or until the broker can be asked for more
        times."""
        at = self._taken[0] if self._taken else self._ask_at
        if len(self._taken) < waiting:
            at = min(at, self._ask_at)
        return max(0.0, at - self._broker.now())

    async def take(self, waiting: int) -> None:
        """Take times for `waiting` jobs, as far as the times lie in the near future. Raises BrokerError."""
        now = self._broker.now()
        missing = waiting - len(self._taken)
        if missing <= 0 or now < self._ask_at:
            return
        for _ in range(TRIES):
            start = max(self._first_free.value, now)
            if start > now + _TAKEN_AHEAD:
                # Believe only a value that was just read: the cell may have lapsed since the last read, and its time
                # with it.
                if await self._first_free.read():
                    continue
                self._ask_at = min(start, now + _ASK_WITHIN) - _TAKEN_AHEAD / 2
                return
            if await self._take_from(start, missing, now):
                return
            await self._first_free.read()
        raise BrokerError(f"the times of {self._first_free.name} change too fast")

    async def _take_from(self, start: float, missing: int, now: float) -> bool:
        """Take up to `missing` times from `start` on. Return False if another worker was quicker."""
        every = self._rate.every
        count = min(missing, int((now + _TAKEN_AHEAD - start) / every) + 1)
        after = start + count * every
        # The cell may lapse a second after the first free time: a cell that is not stored means that all times from now
        # on are free.
        if not await self._first_free.write(after, ttl=after - now + 1.0):
            return False
        # After the write: before the cell says so, another worker may take the same times.
        self._taken.extend(start + number * every for number in range(count))
        self._ask_at = max(now, self._taken[-1] - _TAKEN_AHEAD / 2)
        return True


def _decode_time(data: bytes) -> float:
    time = _decode(data)
    return time if 0 <= time <= LATEST else 0.0
