"""A pytest plugin: as on a machine that was suspended, what counts the time of the sleep is ahead of what does not.

`pytest -p tests.apps.suspended`. It has to be loaded before jetq is.
"""

from __future__ import annotations

import time

_SLEPT = 5_000.0
"""Seconds. Longer than any lease, so that whoever compares the two clocks is wrong by more than that."""

_clock_gettime = time.clock_gettime


def _having_slept(clock: int) -> float:
    return _clock_gettime(clock) + (_SLEPT if clock == time.CLOCK_BOOTTIME else 0.0)


time.clock_gettime = _having_slept
