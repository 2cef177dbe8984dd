"""Durations and instants at the door: float seconds and aware UTC inside, whatever the caller wrote outside."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

__all__ = ["instant", "seconds"]


def seconds(value: float | timedelta, name: str) -> float:
    """`value` as float seconds.

    Raises ValueError for a negative, infinite or NaN duration and TypeError for anything but a number or timedelta;
    both name the parameter `name`.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected seconds or a timedelta, got {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a duration of 0 seconds or more, got {value}")
    return float(value)


def instant(value: datetime, name: str) -> datetime:
    """`value` in UTC. Raises ValueError for a naive datetime, naming `name` and the fix."""
    if value.tzinfo is None:
        raise ValueError(f"{name}: {value!r} has no time zone; pass an aware one, e.g. datetime.now(UTC)")
    return value.astimezone(UTC)
