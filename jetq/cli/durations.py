"""Parameter types for durations, times and rates on the command line: `90s`, `10m`, `2026-08-01T12:00`, `10/s`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from jetq.model.definitions.rate import Rate, parse_rate
from jetq.units import read_span

__all__ = ["DURATION", "PAST", "RATE"]

T = TypeVar("T")


class _Read(click.ParamType[T]):
    """A parameter type that reads a text with `read`. A ValueError that `read` raises becomes the error message."""

    def __init__(self, name: str, kind: type[T], read: Callable[[str], T]) -> None:
        self.name = name
        self._kind = kind
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if isinstance(value, self._kind):
            return value
        try:
            return self._read(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _past(text: str) -> float:
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        if text[-1:].isalpha():  # a bare number could be seconds or a year
            return time.time() - read_span(text, "age")
    except ValueError:
        pass
    raise ValueError(f"expected a time like 2026-08-01T12:00, local without an offset, or an age like 2h, got {text!r}")


DURATION = _Read("duration", float, lambda text: read_span(text, "duration"))
"""A duration in seconds, written with a unit."""

PAST = _Read("when", float, _past)
"""An instant in unix seconds, written as a time, or as how long ago it was."""

RATE = _Read("rate", Rate, parse_rate)
"""A number of jobs in a span of time."""
