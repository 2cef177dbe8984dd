"""Checks of options: a value that the wire or a worker could not take is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from jetq.errors import DefinitionError
from jetq.model.bounds import LONGEST, MOST
from jetq.model.definitions.wrappers import is_context_manager, wraps_async
from jetq.model.job import LEVELS, Level
from jetq.units import seconds

__all__ = ["check_count", "check_duration", "check_functions", "check_level", "check_pool", "default_pool"]


def check_count(name: str, value: Any) -> int:
    """Return `value` if it is a whole number from 1 to `MOST`. Raises DefinitionError, which names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DefinitionError(f"{name} must be a whole number from 1, not {value!r}")
    if value > MOST:
        raise DefinitionError(f"{name} must be at most {MOST}, not {value}")
    return value


def check_duration(name: str, value: Any) -> float:
    """Return `value`, seconds or a timedelta from 0 to `LONGEST`, as float seconds.

    Raises DefinitionError, which names the option `name`.
    """
    try:
        checked = seconds(value, name)
    except (TypeError, ValueError) as error:
        raise DefinitionError(str(error)) from None
    if checked > LONGEST:
        raise DefinitionError(f"{name} must be at most {LONGEST:.0f} s, not {checked:g}: NATS counts no further")
    return checked


def check_functions(name: str, values: Any) -> tuple[Callable[..., Any], ...]:
    """Return `values`, which are functions or other callables, as a tuple.

    Raises DefinitionError, which names the option `name`.
    """
    if not isinstance(values, Iterable):
        raise DefinitionError(f"{name} takes a list of functions, not {type(values).__name__}")
    functions = tuple(values)
    for each in functions:
        if not callable(each):
            raise DefinitionError(f"{name} takes functions, not {type(each).__name__}")
    return functions


def check_level(level: Any) -> Level:
    """Return `level` if it is a level. Raises DefinitionError otherwise."""
    for known in LEVELS:
        if level == known:
            return known
    raise DefinitionError(f"priority is 'high', 'normal' or 'low', not {level!r}")


def default_pool(fn: Callable[..., Any]) -> str:
    """Return where `fn` runs if its task does not say: on the loop if `fn` is async, else in a thread."""
    return "loop" if inspect.iscoroutinefunction(fn) else "thread"


def check_pool(fn: Callable[..., Any], run_in: str) -> None:
    """Raise DefinitionError if `fn` cannot be a task, or cannot run in `run_in`: the loop, a thread or a process."""
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise DefinitionError(f"{fn.__qualname__} is a generator; a task returns its result")
    if is_context_manager(fn):
        raise DefinitionError(
            f"{fn.__qualname__} is a context manager: calling it runs nothing",
            hint="use it in a task: with ...:",
        )
    if run_in == "process" and "<locals>" in fn.__qualname__:
        raise DefinitionError(
            f"run_in='process' needs a function at the top of a module, where a process can import it, and "
            f"{fn.__qualname__} is a local one"
        )
    if (run_in == "loop") != (default_pool(fn) == "loop") and not (run_in == "loop" and wraps_async(fn)):
        need = "an async function" if run_in == "loop" else "a function that is not async"
        raise DefinitionError(f"run_in={run_in!r} needs {need}, and {fn.__qualname__} is not one")
