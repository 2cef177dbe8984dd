"""The work of `@task` and `@app.task`: make a task of a function, check the task, and register it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from jetq.client.call_keys import check_template
from jetq.client.registry import Registry, task_name
from jetq.client.task import AsyncTask, Enqueues, SyncTask, Task
from jetq.encoding.signature import Signature
from jetq.model.definitions.options import task_options
from jetq.model.definitions.wrappers import wraps_async
from jetq.model.names import check_queue

__all__ = ["Decorator", "decorate"]

P = ParamSpec("P")
R = TypeVar("R")

AppOf = Callable[[Callable[..., Any]], Callable[[], Enqueues]]
"""Takes a task's function, and gives a function that tells at each call of the task which app the call goes to."""


class Decorator(Protocol):
    """The decorator that `@task(...)` with keywords gives."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


def decorate(fn: Callable[..., Any] | None, keywords: Mapping[str, Any], registry: Registry, app_of: AppOf) -> Any:
    """Return the task made of `fn` with the options `keywords`, registered in `registry`. Without `fn` return a
    function that makes the task.

    app_of: tells which app the task's calls go to. Raises DefinitionError for a function or option that cannot work.
    """
    if fn is not None:
        return _made(fn, keywords, registry, app_of)
    return partial(_made, keywords=keywords, registry=registry, app_of=app_of)


def _made(fn: Callable[..., Any], keywords: Mapping[str, Any], registry: Registry, app_of: AppOf) -> Task[..., Any]:
    name = task_name(fn, keywords.get("name"))
    queue = check_queue(keywords.get("queue", "default"))
    signature = Signature(fn, name)
    options = task_options(fn, keywords, returns_none=signature.returns_none)
    kind = AsyncTask if options.run_in == "loop" or wraps_async(fn) else SyncTask
    made: Task[..., Any] = kind(
        fn,
        name=name,
        queue=queue,
        signature=signature,
        options=options,
        app=app_of(fn),
    )
    _check(made)
    registry.add(made)
    return made


def _check(task: Task[..., Any]) -> None:
    """Raise DefinitionError if options of `task` do not fit its parameters or its result."""
    options, signature = task.declared, task.signature
    if options.key is not None:
        check_template(options.key, signature)
    if options.limit_per is not None:
        check_template(options.limit_per, signature, "limit_per")
    if options.schedules:
        from jetq.client.declared_schedules import check_schedules

        check_schedules(task)
    if options.result_ttl is not None:
        signature.try_result()
