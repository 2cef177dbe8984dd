"""The clock for spans that must not be cut short: nobody sets it, and it runs while the machine is suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["steady"]

# On Linux `time.monotonic` stops while the machine sleeps, but a lease goes on.
steady: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""The function that returns the seconds since some time in the past."""
