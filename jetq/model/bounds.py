"""Bounds of the numbers that jetq reads from the broker, checked before they are used.

Anyone with the permission may have written these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET

__all__ = ["LAST_SEQUENCE", "LATEST", "LONGEST", "LONGEST_HEADER", "MOST", "check_numbers"]

LONGEST_HEADER = 64 * 1024
"""The most characters of a header of jetq. The longest header that jetq writes is a dead letter's, of 24 KiB."""

MOST = 2**31 - 1
"""The highest count of anything. jetq can add to such a count and write the sum; with 2**64 it could not."""

LAST_SEQUENCE = 2**64 - 1
"""The highest sequence of a stream: NATS counts messages in 64 bits."""

LONGEST = 9e9
"""The longest duration in seconds, 285 years: NATS, which counts nanoseconds in 64 bits, can hold that."""

LATEST = 2.5e11
"""The latest instant in unix seconds, in the year 9892: Python can show that as a date."""


def check_numbers(
    values: Any,
    *,
    counts: Iterable[str] = (),
    spans: Iterable[str] = (),
    times: Iterable[str] = (),
    sequences: Iterable[str] = (),
) -> None:
    """Raise ValueError for a field of `values` that is no possible count, duration, time or sequence.

    counts, spans, times, sequences: the names of the fields of each kind. A field that is None or UNSET passes.
    """
    for names, most in ((counts, MOST), (spans, LONGEST), (times, LATEST), (sequences, LAST_SEQUENCE)):
        for name in names:
            value = getattr(values, name)
            if value is not None and value is not UNSET and not 0 <= value <= most:
                raise ValueError(f"{name} is {_shown(value)}, which cannot be")


def _shown(value: float) -> str:
    try:
        return f"{value:.6g}"
    except OverflowError:  # an int of more than 308 digits; msgspec 0.22 decodes up to 4,300
        return "a number of hundreds of digits"
