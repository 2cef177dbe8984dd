"""Decorators around a task's function: what they hide, and whether what comes out of them has run.

A plain wrapper of an async function returns a coroutine, and one of a generator function a generator: nothing of the
function's own code has run then.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["FINISHED", "NeverRan", "check_finished", "discard", "has_run", "is_context_manager", "wraps_async"]

FINISHED = frozenset({types.NoneType, bool, int, float, str, bytes, list, tuple, dict, set})
"""Types whose values are surely results: most are, and need no look."""

_CONTEXTLIB = contextlib.contextmanager.__code__.co_filename


class NeverRan(Exception):
    """A task has returned code in place of a result, and nobody has run that."""


def wraps_async(fn: Callable[..., Any]) -> bool:
    """Whether `fn` is no async function and wraps one, so that what it returns may have to be awaited."""
    inner = _layers(fn)
    return not inspect.iscoroutinefunction(next(inner)) and any(map(inspect.iscoroutinefunction, inner))


def is_context_manager(fn: Callable[..., Any]) -> bool:
    """Whether `fn` was made by contextlib of a generator function: calling it runs nothing."""
    code = getattr(fn, "__code__", None)
    if code is None or code.co_filename != _CONTEXTLIB:
        return False
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in _layers(fn))


def has_run(value: Any) -> bool:
    """Whether `value`, returned by a task, is no code that waits to be run."""
    return type(value) in FINISHED or not (inspect.isawaitable(value) or _kind(value))


def check_finished(fn: Callable[..., Any], name: str, value: Any) -> None:
    """Raises NeverRan for a `value` that the task `name` has returned if it is code, and nobody will run it."""
    if not has_run(value):
        kind = _kind(value) or "a coroutine"
        discard(value)
        raise NeverRan(f"{name} returned {kind}, and what is in it never ran; {_origin(fn)}")


def discard(value: Any) -> None:
    """Close code that will not be run, so that Python does not complain of it."""
    code = getattr(value, "gen", value)
    if isinstance(code, types.GeneratorType | types.CoroutineType):
        code.close()


def _kind(value: Any) -> str | None:
    """What `value` is, if it is code that cannot be awaited either."""
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
    """`fn` and the functions that it wraps, outermost first."""
    seen: set[int] = set()
    each: Any = fn
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = getattr(each, "__wrapped__", None)


def _origin(fn: Callable[..., Any]) -> str:
    """Who has returned it, for a sentence."""
    code = getattr(fn, "__code__", None)
    if code is None or len(list(_layers(fn))) == 1:
        return "a task returns its result: iterate or await it in the task"
    maker = code.co_qualname.partition(".<locals>")[0]
    return f"it came from the decorator {maker} ({code.co_filename}:{code.co_firstlineno}), which does not run it"
