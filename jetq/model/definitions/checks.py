"""What a user gives as options: refused here if the wire, or a worker, could not take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jetq.errors import DefinitionError
from jetq.model.bounds import LONGEST, MOST
from jetq.model.job import LEVELS, Level
from jetq.units import seconds

__all__ = ["check_count", "check_duration", "check_functions", "check_level"]


def check_count(name: str, value: Any) -> int:
    """`value`, a whole number from 1. Raises DefinitionError, naming the option `name`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DefinitionError(f"{name} must be a whole number from 1, not {value!r}")
    if value > MOST:
        raise DefinitionError(f"{name} must be at most {MOST}, not {value}")
    return value


def check_duration(name: str, value: Any) -> float:
    """`value`, seconds or a timedelta, as float seconds from 0. Raises DefinitionError, naming the option `name`."""
    try:
        checked = seconds(value, name)
    except (TypeError, ValueError) as error:
        raise DefinitionError(str(error)) from None
    if checked > LONGEST:
        raise DefinitionError(f"{name} must be at most {LONGEST:.0f} s, not {checked:g}: NATS counts no further")
    return checked


def check_functions(name: str, values: Any) -> tuple[Callable[..., Any], ...]:
    """`values`, functions or what is called like one. Raises DefinitionError, naming the option `name`."""
    if not isinstance(values, Iterable):
        raise DefinitionError(f"{name} takes a list of functions, not {type(values).__name__}")
    functions = tuple(values)
    for each in functions:
        if not callable(each):
            raise DefinitionError(f"{name} takes functions, not {type(each).__name__}")
    return functions


def check_level(level: Any) -> Level:
    """`level`, if it is one. Raises DefinitionError otherwise."""
    for known in LEVELS:
        if level == known:
            return known
    raise DefinitionError(f"priority is 'high', 'normal' or 'low', not {level!r}")
