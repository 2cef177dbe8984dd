"""The choice of an app for a `@task` that names none: the default app, or, where there are several, the worker's
app."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from jetq.errors import DefinitionError
from jetq.model.job_context import CURRENT

if TYPE_CHECKING:
    from jetq.settings import Settings

__all__ = ["AppOfCall", "DefaultApp", "HasSettings", "owner_of", "served", "serves"]


class HasSettings(Protocol):
    """The part of an app that is needed here."""

    settings: Settings


A = TypeVar("A", bound=HasSettings)

_serving: list[HasSettings] = []


class DefaultApp(Generic[A]):
    """The one global: the app of tasks that name none. `kind` is the class of apps, which makes an app without
    arguments."""

    def __init__(self, kind: type[A]) -> None:
        self.kind = kind
        self._lock = threading.RLock()
        self._app: A | None = None
        self._offered: A | None = None
        self._from_environment = False
        self._making = False
        self.chosen = False

    def offer(self, app: A) -> None:
        """Make `app` the default if it is the first app made. Raises DefinitionError if an app from the environment is
        in use."""
        with self._lock:
            self._offered = self._offered or app
            if self._app is None:
                self._app = app
                self._from_environment = self._making
            elif self._from_environment:
                raise DefinitionError(
                    "a task was already enqueued with an app made from the environment, before this first Jetq(...)",
                    hint="make the app before the first .delay(), for example in the module that defines the tasks",
                )

    def get(self) -> A:
        """Return the first app made. If there is none, make an app from the environment and files. Raises
        SettingsError."""
        with self._lock:
            if self._app is None:
                self._making = True
                try:
                    self.kind()  # the new app offers itself
                finally:
                    self._making = False
            assert self._app is not None
            return self._app

    def forget(self) -> None:
        """Let the next app that is made count as the first."""
        with self._lock:
            self._app = None
            self._from_environment = False

    @contextmanager
    def replaced(self, app: A | None) -> Iterator[A]:
        """Let tasks that name no app go to `app` until the context ends. None keeps the default app; if there is none,
        an app is made for the context."""
        with self._lock:
            kept, from_environment, chosen = self._app, self._from_environment, self.chosen
            app = app or kept or self.kind()
            self._app, self._from_environment, self.chosen = app, False, True
            self._offered = None
        try:
            yield app
        finally:
            with self._lock:
                self._app = kept or self._offered  # the first app made meanwhile is still the first
                self._from_environment, self.chosen = from_environment, chosen


class AppOfCall(Generic[A]):
    """Tells which app a call of `fn` goes to, whose task names none: the running job's app, else the app of the workers
    that run here, else the default app.

    default: gives the `DefaultApp` in force.
    """

    def __init__(self, fn: Callable[..., Any], default: Callable[[], DefaultApp[A]]) -> None:
        self._fn = fn
        self._default = default
        self._known: tuple[A, tuple[HasSettings, ...], A] | None = None

    def __call__(self) -> A:
        """Return the app that a call goes to now. Raises DefinitionError as `owner_of` does."""
        default = self._default()
        current = CURRENT.get()
        if current is not None and isinstance(current.app, default.kind):
            return current.app
        first, serving = default.get(), served()
        if self._known is None or self._known[0] is not first or self._known[1] != serving:
            self._known = (first, serving, first if default.chosen else owner_of(self._fn, first))
        return self._known[2]


class _Works(Protocol):
    """The part of a worker that is needed here."""

    @property
    def app(self) -> HasSettings: ...


W = TypeVar("W", bound=_Works)


def serves(run: Callable[[W], Coroutine[Any, Any, None]]) -> Callable[[W], Coroutine[Any, Any, None]]:
    """Wrap a worker's `run` so that, while the worker runs, its app counts as served in this process: the worker runs
    every imported `@task`."""

    @functools.wraps(run)
    async def noted(worker: W) -> None:
        _serving.append(worker.app)
        try:
            await run(worker)
        finally:
            _serving.remove(worker.app)

    return noted


def served() -> tuple[HasSettings, ...]:
    """Return the apps that workers of this process serve now."""
    return tuple(_serving)


def owner_of(fn: Callable[..., Any], default: A) -> A:
    """Return the app that a call of `fn` goes to outside of jobs. `default` is the app that was made first.

    Where workers run, the call goes to an app that they serve: these workers would run the job, and nobody else here.
    Raises DefinitionError if the workers serve several apps and `default` is none of these, or if no worker runs and
    the module of `fn` has made an app, but not `default`.
    """
    kind = type(default)
    served = [app for app in _serving if isinstance(app, kind)]
    candidates = served or [app for app in vars(sys.modules.get(fn.__module__, object)).values() if type(app) is kind]
    if not candidates or any(_is_same(app, default) for app in candidates):
        return default
    if served and all(_is_same(app, served[0]) for app in served):
        return served[0]
    who = "no worker here serves that" if served else f"its module has another, {_defined_at(candidates[0])}"
    raise DefinitionError(
        f"task {fn.__module__}.{fn.__qualname__} names no app, so it would go to the first one made, "
        f"{_defined_at(default)}; {who}",
        hint="make it a task of its app, @app.task, or say which app a call goes to: app.enqueue(task.bind(...))",
    )


def _is_same(one: HasSettings, other: HasSettings) -> bool:
    """Return whether both apps put their jobs in one place."""
    return one is other or (one.settings.servers, one.settings.namespace) == (
        other.settings.servers,
        other.settings.namespace,
    )


def _defined_at(app: HasSettings) -> str:
    return f"of namespace {app.settings.namespace!r}"
