"""The clock for spans that must not be cut short: nobody sets it, and it goes on while the machine is suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

__all__ = ["steady"]

# `time.monotonic` stands still while a machine sleeps (Linux), and a lease does not.
steady: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds since some time in the past."""
