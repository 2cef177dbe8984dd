"""Bounds of what is read from the broker: before it is decoded, and before its numbers are used. Anyone with the
permission may have written it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from msgspec import UNSET

__all__ = ["DEEPEST", "LATEST", "LONGEST", "LONGEST_HEADER", "MOST", "check_numbers", "is_too_deep"]

DEEPEST = 500
"""Levels of arrays and objects in what is decoded: half of the stack that Python gives by default (1,000 frames), of
which a worker and its middleware need some. Without a bound a deep text ends in RecursionError, or, in a process that
has raised that limit, in a crash."""

LONGEST_HEADER = 64 * 1024
"""Characters of a header of jetq's. The longest it writes is a dead letter's, of 24 KiB."""

MOST = 2**31 - 1
"""Of anything that is counted. It can be added to and written again; 2**64 could not."""

LONGEST = 9e9
"""Seconds of a duration, 285 years: what NATS, which counts nanoseconds in 64 bits, can hold."""

LATEST = 2.5e11
"""Unix seconds of an instant, in the year 9892: what Python can show as a date."""

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(text: bytes) -> bool:
    """Whether JSON is nested deeper than `DEEPEST`, told without decoding it; text that is no JSON may pass."""
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return False
    brackets = _STRINGS.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST


def check_numbers(
    values: Any, *, counts: Iterable[str] = (), spans: Iterable[str] = (), times: Iterable[str] = ()
) -> None:
    """Raises ValueError for a field of `values` that is no possible count, duration or time. None and UNSET are."""
    for names, most in ((counts, MOST), (spans, LONGEST), (times, LATEST)):
        for name in names:
            value = getattr(values, name)
            if value is not None and value is not UNSET and not 0 <= value <= most:
                raise ValueError(f"{name} is {value:.6g}, which cannot be")
