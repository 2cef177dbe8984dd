"""How much a bounded queue may still take, so that its stream never gets full.

The server cannot refuse for jetq: a stream with schedules may not discard new messages (error 10052), and a stream that
discards old messages drops its oldest jobs when it is full (nats-server 2.15.1). So producers look how full the stream
is, and leave a fifth of it to what must have room: retries, and schedules that fire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from jetq.errors import Rejected
from jetq.model.job import Delivery, JobRecord
from jetq.settings import OPEN_TO_NEW
from jetq.units import size

__all__ = ["OPEN_TO_ALL", "Room"]

OPEN_TO_ALL = 0.95
"""The part of the stream that retries, and jobs that are given back, may fill. They wait for room in their workers;
when they end, they make some room."""

_SHARE = 16
"""A producer takes one part in this many of what is left before it looks again. So as many producers may work at once
without taking more than is left."""

_GOOD_FOR = 1.0
"""Seconds after which a producer looks again in any case, because other producers enqueue too."""

_BESIDE = 512
"""Bytes that a job takes besides its arguments: subject, headers and the store's own bytes."""


class Room:
    """The room of one queue's stream. `look` returns the stream as it is now. `part` is the part of it that may be
    filled.

    Guarantee: tests/integration/queues/test_room.py: a queue with max_bytes refuses new jobs in words, and drops none.
    """

    def __init__(
        self, queue: str, look: Callable[[], Awaitable[dict[str, Any] | None]], part: float = OPEN_TO_NEW
    ) -> None:
        self._queue = queue
        self._part = part
        self._look = look
        self._looking = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._left = 0.0
        self._taken = 0
        self._until = 0.0

    def has(self, job: JobRecord | Delivery) -> bool:
        """Return whether there surely is room for `job`; if so, the room is taken."""
        needed = len(job.body) + _BESIDE
        if needed > self._left or self._loop.time() > self._until:
            return False
        self._left -= needed
        self._taken += needed
        return True

    async def take(self, job: JobRecord | Delivery) -> None:
        """Take room for `job`. Raises Rejected if there is none."""
        while not self.has(job):
            async with self._looking:
                if not self.has(job):
                    await self._measure(job)
                else:
                    return

    async def _measure(self, job: JobRecord | Delivery) -> None:
        info = await self._look()
        # This look may not have seen what was sent since the look before.
        under_way, self._taken = self._taken, 0
        self._until = self._loop.time() + _GOOD_FOR
        limit = -1 if info is None else int(info["config"].get("max_bytes", -1))
        if info is None or limit <= 0:
            self._left = float("inf")
            return
        used = int(info["state"]["bytes"])
        free = limit * self._part - used - under_way
        needed = len(job.body) + _BESIDE
        if needed > free:
            self._left = 0.0
            if under_way:
                return await self._measure(job)
            raise Rejected(
                f"queue {self._queue!r} is full: its jobs have {size(used)} of {size(limit)} (max_bytes), and "
                f"{'new ones' if self._part == OPEN_TO_NEW else 'retries'} are taken up to {self._part:.0%}",
                hint="let workers catch up, or raise max_bytes of its stream: "
                f"`nats stream edit {info['config']['name']} --max-bytes`",
                job_ids=(job.id,),
            )
        self._left = max(free / _SHARE, needed)
