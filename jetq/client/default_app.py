"""Whose a `@task` is that names no app, where there are several: never silently another's than its worker's."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from jetq.errors import DefinitionError
from jetq.settings import Settings

__all__ = ["HasSettings", "owner_of", "served", "serves"]


class HasSettings(Protocol):
    """What is needed of an app here."""

    settings: Settings


A = TypeVar("A", bound=HasSettings)

_serving: list[HasSettings] = []


class _Works(Protocol):
    """What is needed of a worker."""

    @property
    def app(self) -> HasSettings: ...


W = TypeVar("W", bound=_Works)


def serves(run: Callable[[W], Coroutine[Any, Any, None]]) -> Callable[[W], Coroutine[Any, Any, None]]:
    """While the worker runs, its app is served in this process: it runs every imported `@task`."""

    @functools.wraps(run)
    async def noted(worker: W) -> None:
        _serving.append(worker.app)
        try:
            await run(worker)
        finally:
            _serving.remove(worker.app)

    return noted


def served() -> tuple[HasSettings, ...]:
    """The apps that workers of this process serve now."""
    return tuple(_serving)


def owner_of(fn: Callable[..., Any], default: A) -> A:
    """The app that a call of `fn` goes to outside of jobs, where `default` was made first.

    Where workers run, one that they serve; they would run the job, and nobody else here. Raises DefinitionError if
    those are several, or if no worker runs and the module of `fn` has made an app, but not this one.
    """
    kind = type(default)
    served = [app for app in _serving if isinstance(app, kind)]
    candidates = served or [app for app in vars(sys.modules.get(fn.__module__, object)).values() if type(app) is kind]
    if not candidates or any(_is_same(app, default) for app in candidates):
        return default
    if served and all(_is_same(app, served[0]) for app in served):
        return served[0]
    who = "no worker here serves that" if served else f"its module has another, {_place(candidates[0])}"
    raise DefinitionError(
        f"task {fn.__module__}.{fn.__qualname__} names no app, so it would go to the first one made, "
        f"{_place(default)}; {who}",
        hint="make it a task of its app, @app.task, or say which app a call goes to: app.enqueue(task.bind(...))",
    )


def _is_same(one: HasSettings, other: HasSettings) -> bool:
    """Whether both put their jobs in one place."""
    return one is other or (one.settings.servers, one.settings.namespace) == (
        other.settings.servers,
        other.settings.namespace,
    )


def _place(app: HasSettings) -> str:
    return f"of namespace {app.settings.namespace!r}"
