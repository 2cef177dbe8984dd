"""Arguments that take the values of other steps: each value goes into its spots as the JSON that it is stored as."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Raw

from jetq.encoding.json_text import TOO_DEEP, is_too_deep
from jetq.model.workflows.plan import Spot

__all__ = ["filled", "whole"]

MOST_MISSING = 1_000
"""Elements by which a list grows at once: the parts of a group. Anyone may have written the plan that says more."""

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def filled(body: bytes, values: Iterable[tuple[Spot, Raw]]) -> bytes:
    """Return the JSON object `body` with `values` in their spots. What a spot lies in is made where it is missing: a
    list for a number, an object for a name. The values themselves are not decoded.

    Raises ValueError for a body that is no JSON object or is nested too deeply, and for a spot that `body` does not
    have room for.
    """
    if is_too_deep(body):
        raise ValueError(TOO_DEEP)
    arguments: dict[str, Any] = dict(_fields(body))
    for spot, value in values:
        _put(arguments, spot, value)
    return _encode(arguments)


def whole(values: Iterable[tuple[Spot, Raw]]) -> bytes:
    """Return the JSON value that is put together of `values`; with the empty spot, one value is all of it."""
    holder: dict[str, Any] = {}
    for spot, value in values:
        _put(holder, ("", *spot), value)
    return _encode(holder[""])


def _put(holder: Any, spot: Spot, value: Raw) -> None:
    for step, following in pairwise(spot):
        _make_room(holder, step)
        inner = holder[step]
        if isinstance(inner, Raw):  # an argument that was given in part
            inner = msgspec.json.decode(inner)
        if inner is None:
            inner = [] if isinstance(following, int) else {}
        holder[step] = inner
        holder = inner
    _make_room(holder, spot[-1])
    holder[spot[-1]] = value


def _make_room(holder: Any, step: str | int) -> None:
    if isinstance(step, int) and isinstance(holder, list) and 0 <= step <= len(holder) + MOST_MISSING:
        holder += [None] * (step + 1 - len(holder))
    elif isinstance(step, str) and isinstance(holder, dict):
        holder.setdefault(step, None)
    else:
        raise ValueError(f"the arguments have no room for a value at {step!r}")
