"""Rates, which say how often something may begin: `50/s`, `100/m`, `10/h`."""

from __future__ import annotations

import re

from msgspec import Struct

__all__ = ["Rate", "parse_rate"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(r"(\d{1,9})/([smhd])")


class Rate(Struct, frozen=True):
    """A rate of `count` starts in `period` seconds, evenly spread."""

    count: int
    period: float

    @property
    def every(self) -> float:
        """Seconds from one start to the next."""
        return self.period / self.count

    def __str__(self) -> str:
        return f"{self.count}/{next(unit for unit, size in _UNITS.items() if size == self.period)}"


def parse_rate(text: object) -> Rate:
    """Return the rate that `text` says: a whole number from 1, a slash, and s, m, h or d. Else raise ValueError."""
    found = _RATE.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    if found is None or int(found[1]) < 1:
        raise ValueError(f"rate is a number from 1 and a unit, like '50/s', '100/m', '10/h' or '5/d', not {text!r}")
    return Rate(int(found[1]), _UNITS[found[2]])
