"""The cancelled jobs that a worker knows of: some were cancelled before they came, others while the worker has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from jetq.broker.fleet import Fleet
from jetq.broker.numbers import REMEMBERED
from jetq.model.job import Delivery
from jetq.worker.attempt import INSIST_AFTER, Attempt

__all__ = ["Cancellations", "FindAttempt"]

_REMEMBERED_FOR = 2.0 * REMEMBERED
"""Seconds for which a cancelled id is remembered: longer than the broker keeps it on record."""

FindAttempt = Callable[[str, str], Attempt | None]
"""`(queue, id) -> attempt`: the attempt that a worker has of that job, started or about to be; None if it has none."""


class Cancellations:
    """The cancelled jobs of the queues that one worker serves. find: returns the worker's attempt at a job."""

    def __init__(self, find: FindAttempt) -> None:
        self._find = find
        self._heard_at: dict[tuple[str, str], float] = {}  # by queue and id, the oldest first

    async def listen(self, broker: Fleet, queue: str) -> None:
        """Subscribe to the cancellations of jobs of `queue`. When this returns, all earlier cancellations are known."""
        await broker.watch_cancelled(queue, partial(self._on_mark, queue))

    def __contains__(self, delivery: Delivery) -> bool:
        """Return whether the job of `delivery` must not be started."""
        return bool(self._heard_at) and (delivery.queue, delivery.id) in self._heard_at

    def forget_old(self, now: float) -> None:
        """Drop cancellations that are too old to matter. `now` is `time.monotonic()`."""
        while self._heard_at:
            oldest = next(iter(self._heard_at))
            if self._heard_at[oldest] > now - _REMEMBERED_FOR:
                return
            del self._heard_at[oldest]

    def _on_mark(self, queue: str, id: str, cancelled: bool) -> None:
        self._heard_at.pop((queue, id), None)
        if not cancelled:
            return
        now = time.monotonic()
        self._heard_at[queue, id] = now  # at the end, as the newest
        attempt = self._find(queue, id)
        if attempt is not None and not attempt.cancelled:
            attempt.cancel()
            attempt.deadline = now + INSIST_AFTER
