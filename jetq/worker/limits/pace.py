"""When the jobs of a rate may start: times that workers take from one cell, each time once, evenly spread."""

from __future__ import annotations

from collections import deque

import msgspec

from jetq.broker import Broker
from jetq.errors import BrokerError
from jetq.model.bounds import LATEST
from jetq.model.cell import Cell
from jetq.model.definitions.rate import Rate

__all__ = ["Pace"]

_AHEAD = 0.25
"""Seconds for which a worker takes times ahead: so that none passes unused while it asks for more, and few are lost
with it."""

_STALE = 1.0
"""Seconds after which a time that was not used is lost, because used later it would make a burst; of a slow rate after
a tenth of the time between two."""

_TRIES = 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(float).decode


class Pace:
    """Times of start for a key of the task with that rate; the cell `name` has the first that is not taken."""

    def __init__(self, broker: Broker, name: str, rate: Rate) -> None:
        self._broker = broker
        self._name = name
        self._rate = rate
        self._cell: Cell | None = None
        self._taken: deque[float] = deque()
        self._ask_at = 0.0

    @property
    def ready(self) -> int:
        """How many jobs may start now."""
        now = self._broker.now()
        while self._taken and self._taken[0] < now - max(_STALE, self._rate.every / 10):
            self._taken.popleft()
        return sum(1 for each in self._taken if each <= now)

    @property
    def soon(self) -> int:
        """How many jobs start within a moment, if all times are this worker's."""
        return int(2 * _AHEAD / self._rate.every) + 1

    def use(self) -> None:
        """A job starts."""
        self._taken.popleft()

    def waits(self, waiting: int) -> float:
        """Seconds until the next of so many jobs may start, or until it can be asked when."""
        at = self._taken[0] if self._taken else self._ask_at
        if len(self._taken) < waiting:
            at = min(at, self._ask_at)
        return max(0.0, at - self._broker.now())

    async def take(self, waiting: int) -> None:
        """Take times for the jobs that wait, as far as they lie in the near future. Raises BrokerError."""
        now = self._broker.now()
        missing = waiting - len(self._taken)
        if missing <= 0 or now < self._ask_at:
            return
        every = self._rate.every
        for _ in range(_TRIES):
            start = max(self._next(), now)
            if start > now + _AHEAD:
                fresh = await self._broker.read_cell(self._name)
                if fresh == self._cell:
                    self._ask_at = min(start, now + 60.0) - _AHEAD / 2
                    return
                self._cell = fresh
                continue
            count = min(missing, int((now + _AHEAD - start) / every) + 1)
            if await self._write(start + count * every, now):
                self._taken.extend(start + place * every for place in range(count))
                self._ask_at = max(now, self._taken[-1] - _AHEAD / 2)
                return
            self._cell = await self._broker.read_cell(self._name)
        raise BrokerError(f"the times of {self._name} change too fast")

    def _next(self) -> float:
        try:
            time = 0.0 if self._cell is None else _decode(self._cell.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 0.0  # not written by jetq, and the next write puts that right
        return time if 0 <= time <= LATEST else 0.0

    async def _write(self, time: float, now: float) -> bool:
        value = _encode(time)
        expected = 0 if self._cell is None else self._cell.version
        version = await self._broker.write_cell(self._name, value, expected=expected, ttl=time - now + 1.0)
        if version is None:
            return False
        self._cell = Cell(self._name, value, version)
        return True
