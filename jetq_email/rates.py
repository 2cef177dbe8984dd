"""How often mails may go, as settings say it: `14/s`, `/m`, `/h` or `/d`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

__all__ = ["RateText", "interval"]

RateText = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}/[smhd]$")]

_UNITS: Mapping[str, float] = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def interval(rate: str) -> float:
    """Return the seconds from one mail to the next."""
    count, _, unit = rate.partition("/")
    return _UNITS[unit] / int(count)
