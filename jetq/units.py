"""Conversion of durations and instants, which callers write in several ways, to float seconds and aware UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["instant", "read_span", "seconds", "size", "span"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def seconds(value: float | timedelta, name: str) -> float:
    """Return `value` as float seconds.

    Raises ValueError for a negative, infinite or NaN duration, and TypeError for anything but a number or timedelta.
    Both errors name the parameter `name`.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected seconds or a timedelta, got {type(value).__name__}{_instead(value)}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a duration of 0 seconds or more, got {value}")
    return float(value)


def _instead(value: Any) -> str:
    """Return the end of an error text, with the number to write, if `value` is a text like `10m`; else an empty text.

    Settings and the command line take durations as such texts.
    """
    try:
        return f"; write {read_span(value, ''):g} for {value!r}"
    except (ValueError, TypeError, AttributeError):
        return ""


def instant(value: datetime, name: str) -> datetime:
    """Return `value` in UTC. Raises ValueError for a naive datetime; the error names `name` and the fix."""
    if value.tzinfo is None:
        raise ValueError(f"{name}: {value!r} has no time zone; pass an aware one, e.g. datetime.now(UTC)")
    return value.astimezone(UTC)


def span(seconds: float) -> str:
    """Return a duration as people write it, in its two largest units: 5s, 12m 30s, 3h, 2d 4h."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def size(count: int) -> str:
    """Return a number of bytes as people write it: 512 B, 1 MiB, 59.5 GiB."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"


def read_span(text: str, name: str) -> float:
    """Return the seconds that a text like `90`, `90s`, `10m` or `1h30m` says. Raises ValueError, which names `name`."""
    compact = text.replace(" ", "")
    parts = _SPAN.findall(compact)
    if parts and "".join(number + unit for number, unit in parts) == compact:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return seconds(float(compact), name)
    except ValueError:
        raise ValueError(f"{name}: expected a duration like 90s, 10m or 1h30m, got {text!r}") from None
