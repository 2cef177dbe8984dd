"""Durations on the command line: `90s`, `10m`, `1h30m`."""

from __future__ import annotations

from typing import Any

import click

from jetq.units import read_span

__all__ = ["DURATION"]


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return read_span(str(value), "duration")
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
"""Seconds, written as people write them."""
