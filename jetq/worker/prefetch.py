"""Decides how many jobs a worker asks for beyond its free slots, so that short jobs do not wait for a round trip each.

The number is what the worker starts in two round trips: one batch is on its way while the other is worked off. Long
jobs start rarely, so this worker holds back no long job that another worker might run. A job that was asked for while
jobs were short, and that finds the slots full of long jobs, is given back.
"""

from __future__ import annotations

import math

__all__ = ["Prefetch"]

_COUNTED_OVER = 0.05
"""Seconds over which starts are counted."""

_TYPICAL_ROUND_TRIP = 0.001
"""Seconds that a round trip is assumed to last before the first one was timed."""

_LONGEST_ROUND_TRIP = 0.02
"""The most seconds of a round trip. A request that takes longer waited for a job to be stored."""

_STARTED_WITHIN = 1.0
"""Seconds within which a job that was asked for ahead should be started."""


class Prefetch:
    """Decides how many `jobs` of one feed are asked for ahead, up to `most`, as of the last `recompute`.

    The caller counts each started job in `started`. All times are `time.monotonic()`.
    """

    def __init__(self, most: int, now: float) -> None:
        self._most = most
        self._since = now
        self._rate = 0.0
        self._round_trip = _TYPICAL_ROUND_TRIP
        self._asked_at: float | None = None
        self.jobs = 0
        self.started = 0

    def asked(self, now: float) -> None:
        """Time the request that is made now. Call this only while no other request is on its way."""
        self._asked_at = now

    def answered(self, now: float) -> None:
        """Learn the round trip from the first job that comes after a timed request."""
        if self._asked_at is not None:
            took, self._asked_at = now - self._asked_at, None
            if took < _LONGEST_ROUND_TRIP:
                # A moving average with a weight of 1/8, so that one slow answer changes the estimate little.
                self._round_trip += (took - self._round_trip) / 8

    def recompute(self, now: float) -> None:
        """Decide anew how many `jobs` to ask for ahead, once enough time has passed."""
        passed = now - self._since
        if passed >= _COUNTED_OVER:
            # The mean of the rate so far and the rate of the last period.
            self._rate = (self._rate + self.started / passed) / 2
            self.started, self._since = 0, now
            self.jobs = min(self._most, math.floor(2 * self._rate * self._round_trip))

    def excess(self, waiting: int) -> int:
        """Return how many of the `waiting` jobs will not get a slot soon, and are better given back."""
        return max(0, waiting - max(self.jobs, math.floor(self._rate * _STARTED_WITHIN)))
