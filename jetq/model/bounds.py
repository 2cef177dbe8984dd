"""Bounds of what jetq reads from the broker, checked before decoding and before numbers are used.

Anyone with the permission may have written these bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from msgspec import UNSET

__all__ = ["DEEPEST", "LATEST", "LONGEST", "LONGEST_HEADER", "MOST", "check_numbers", "is_too_deep"]

DEEPEST = 500
"""The most levels of arrays and objects in what jetq decodes. This is half of the stack that Python gives by default
(1,000 frames): a worker and its middleware need some frames too. Without a bound a deep text ends in RecursionError,
or, in a process with a higher recursion limit, in a crash."""

LONGEST_HEADER = 64 * 1024
"""The most characters of a header of jetq. The longest header that jetq writes is a dead letter's, of 24 KiB."""

MOST = 2**31 - 1
"""The highest count of anything. jetq can add to such a count and write the sum; with 2**64 it could not."""

LONGEST = 9e9
"""The longest duration in seconds, 285 years: NATS, which counts nanoseconds in 64 bits, can hold that."""

LATEST = 2.5e11
"""The latest instant in unix seconds, in the year 9892: Python can show that as a date."""

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(text: bytes) -> bool:
    """Return whether the JSON `text` is nested deeper than `DEEPEST`, without decoding it.

    The answer for a text that is no JSON may be False, however deep the text is.
    """
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return False
    brackets = _STRINGS.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST


def check_numbers(
    values: Any, *, counts: Iterable[str] = (), spans: Iterable[str] = (), times: Iterable[str] = ()
) -> None:
    """Raise ValueError for a field of `values` that is no possible count, duration or time.

    counts, spans, times: the names of the fields of each kind. A field that is None or UNSET passes.
    """
    for names, most in ((counts, MOST), (spans, LONGEST), (times, LATEST)):
        for name in names:
            value = getattr(values, name)
            if value is not None and value is not UNSET and not 0 <= value <= most:
                raise ValueError(f"{name} is {value:.6g}, which cannot be")
