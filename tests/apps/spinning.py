"""Python code that goes on until something is raised in it from outside."""

from __future__ import annotations

import time

__all__ = ["spin"]

_LONGEST = 30.0
"""Seconds after which it fails."""


def spin(pause: float = 0.0) -> None:
    """Never return. Whoever catches what is raised calls this within the `try`: in Python 3.13 an exception from
    outside can strike at a loop's jump back, which the handlers around the loop do not cover."""
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end:
        if pause:
            time.sleep(pause)
    raise AssertionError("it was never interrupted")
