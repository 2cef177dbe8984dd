"""Decorators around a task's function: which functions they wrap, and whether a value that they return is code to run.

A plain wrapper of an async function returns a coroutine, and a plain wrapper of a generator function returns a
generator. None of the function's own code has run then.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["FINISHED", "NeverRan", "check_finished", "discard", "has_run", "is_context_manager", "wraps_async"]

FINISHED = frozenset({types.NoneType, bool, int, float, str, bytes, list, tuple, dict, set})
"""Types whose values are surely results. Most values have such a type, and need no further check."""

_CONTEXTLIB = contextlib.contextmanager.__code__.co_filename


class NeverRan(Exception):
    """A task has returned code in place of a result, and the code never ran."""


def wraps_async(fn: Callable[..., Any]) -> bool:
    """Return whether `fn` is no async function but wraps one, so that its return value may have to be awaited."""
    inner = _layers(fn)
    return not inspect.iscoroutinefunction(next(inner)) and any(map(inspect.iscoroutinefunction, inner))


def is_context_manager(fn: Callable[..., Any]) -> bool:
    """Return whether contextlib made `fn` of a generator function. A call of `fn` then runs no code of the function."""
    code = getattr(fn, "__code__", None)
    if code is None or code.co_filename != _CONTEXTLIB:
        return False
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in _layers(fn))


def has_run(value: Any) -> bool:
    """Return whether `value`, which a task has returned, is a result and no code that waits to be run."""
    return type(value) in FINISHED or not (inspect.isawaitable(value) or _kind(value))


def check_finished(fn: Callable[..., Any], name: str, value: Any) -> None:
    """Raise NeverRan if `value`, which the task `name` has returned, is code that will not be run. Close such code.

    fn: the function of the task.
    """
    if not has_run(value):
        kind = _kind(value) or "a coroutine"
        discard(value)
        raise NeverRan(f"{name} returned {kind}, and what is in it never ran; {_origin(fn)}")


def discard(value: Any) -> None:
    """Close code that will not be run, so that Python does not warn of it."""
    code = getattr(value, "gen", value)
    if isinstance(code, types.GeneratorType | types.CoroutineType):
        code.close()


def _kind(value: Any) -> str | None:
    """Return what `value` is, in words, if it is code that cannot be awaited; None otherwise."""
    if isinstance(value, types.AsyncGeneratorType):
        return "an async generator"
    if isinstance(value, types.GeneratorType) and not inspect.isawaitable(value):
        return "a generator"
    if isinstance(value, contextlib.AbstractContextManager | contextlib.AbstractAsyncContextManager) and isinstance(
        getattr(value, "gen", None), types.GeneratorType | types.AsyncGeneratorType
    ):
        return "a context manager"
    return None


def _layers(fn: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield `fn` and the functions that it wraps, outermost first."""
    seen: set[int] = set()
    each: Any = fn
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = getattr(each, "__wrapped__", None)


def _origin(fn: Callable[..., Any]) -> str:
    """Return the end of an error text, which says where code that the task `fn` returned came from."""
    code = getattr(fn, "__code__", None)
    if code is None or len(list(_layers(fn))) == 1:
        return "a task returns its result: iterate or await it in the task"
    maker = code.co_qualname.partition(".<locals>")[0]
    return f"it came from the decorator {maker} ({code.co_filename}:{code.co_firstlineno}), which does not run it"
