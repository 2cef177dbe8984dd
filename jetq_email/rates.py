"""Reads how often mails may be sent, as settings say it: `14/s`, or with `/m`, `/h` or `/d`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

__all__ = ["RateText", "interval"]

RateText = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}/[smhd]$")]

_UNITS: Mapping[str, float] = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def interval(rate: str) -> float:
    """Return the seconds between one mail and the next at `rate`."""
    count, _, unit = rate.partition("/")
    return _UNITS[unit] / int(count)
