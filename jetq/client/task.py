"""A task: a function that can be called here, or stored as a job. A task never knows the app, only what enqueues for
it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast

from msgspec import UNSET

from jetq.client.call import Call, Work
from jetq.client.call_keys import call_key
from jetq.client.job import Job
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError, WorkflowError
from jetq.migration_hints import answering
from jetq.model.definitions.options import (
    NO_SETTINGS,
    CallOptions,
    CallSettings,
    TaskOptions,
    call_settings,
    check_identity,
    effective_options,
)

__all__ = ["AsyncTask", "BoundTask", "Enqueues", "SyncTask", "Task"]

P = ParamSpec("P")
R = TypeVar("R")


class Enqueues(Protocol):
    """The part of an app that a task needs."""

    def enqueue(self, call: Call[R]) -> Job[R]: ...

    async def aenqueue(self, call: Call[R]) -> Job[R]: ...

    def delay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]: ...

    async def adelay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]: ...


@answering("Task")
class _Enqueuer(Generic[P, R]):
    """Makes jobs of one task, with some options."""

    name: str
    queue: str
    signature: Signature
    declared: TaskOptions
    _settings: CallSettings
    _options: TaskOptions
    _app: Callable[[], Enqueues]

    @property
    def defaults(self) -> TaskOptions:
        """The same as `declared`, by its older name."""
        return self.declared

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job and return its handle, once JetStream has stored the job.

        Raises ArgumentError if the arguments do not fit (nothing is sent), Rejected if the job is surely not stored,
        NotStored if nobody knows whether the job is stored, BrokerUnavailable if there is no connection.

        Guarantee: tests/integration/enqueueing/test_enqueue.py: `delay` returns after the broker's acknowledgement, or
        raises in time.
        """
        return self._app().enqueue(self.bind(*args, **kwargs))

    async def adelay(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Do what `delay` does, from async code."""
        return await self._app().aenqueue(self.bind(*args, **kwargs))

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return a call to be enqueued later. The arguments are checked now. Raises ArgumentError if they do not
        fit.

        An argument may be the value of another work, its `out`: then the call waits for that work.
        """
        try:
            body = self.signature.encode(args, kwargs)
        except (ArgumentError, WorkflowError):
            from jetq.client.workflows.inputs import has_placeholder  # here: most programs have no workflows

            if not has_placeholder((args, kwargs)):
                raise
            return cast("Call[R]", self.bind_waiting(args, kwargs))
        key, declared = self._settings.key, self.declared
        if key is UNSET:
            key = None if declared.key is None else call_key(declared.key, self.signature, args, kwargs)
        if declared.limit_per is not None:
            call_key(declared.limit_per, self.signature, args, kwargs)  # so that arguments that give none fail here
        return self._call(body, key)

    def bind_waiting(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work[R]:
        """Return the call with these arguments, among which are values of other works. Raises ArgumentError for the
        others that do not fit, WorkflowError for a task with a key."""
        from jetq.client.workflows.composing import called
        from jetq.client.workflows.inputs import split

        body, inputs = split(self.signature, args, kwargs)
        key = self.declared.key if self._settings.key is UNSET else self._settings.key
        return called(self._call(body, None if key is None else str(key)), inputs)

    def bind_json(self, arguments: Mapping[str, Any]) -> Call[R]:
        """Do what `bind` does, for arguments that are JSON values by parameter name. Raises ArgumentError."""
        body = self.signature.encode_json(arguments)
        key, declared = self._settings.key, self.declared
        if key is UNSET:
            args, kwargs = self.signature.decode(body)
            key = None if declared.key is None else call_key(declared.key, self.signature, args, kwargs)
        return self._call(body, key)

    def bind_to_none(self) -> Call[R]:
        """Return the call of a step without members: it has no arguments, and says the task, the queue and the app."""
        return self._call(b"", None)

    def _call(self, body: bytes, key: str | None) -> Call[R]:
        settings = self._settings
        queue = settings.queue or self.queue
        return Call(self.name, queue, body, settings, self._options, self.signature.decode_result, self._app, key)

    def delay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]:
        """Store many calls, and return their handles in order. Far faster than one call at a time.

        Options given to this task apply to each call that has none of its own.

        Raises EnqueueError, whose `job_ids` are the jobs that are not, or not surely, stored. All earlier batches are
        stored.
        """
        return self._app().delay_many(self._with_options(calls))

    async def adelay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]:
        """Do what `delay_many` does, from async code."""
        return await self._app().adelay_many(self._with_options(calls))

    def _with_options(self, calls: Iterable[Call[R]]) -> Iterable[Call[R]]:
        if self._settings is NO_SETTINGS:
            return calls
        return (call.with_defaults(self._settings) for call in calls)


class BoundTask(_Enqueuer[P, R]):
    """A task with options for its next calls."""

    def __init__(self, task: Task[P, R], settings: CallSettings) -> None:
        self.name = task.name
        self.queue = task.queue
        self.signature = task.signature
        self.declared = task.declared
        self._settings = settings
        self._options = effective_options(task.declared, settings)
        self._app = task._app


class Task(_Enqueuer[P, R]):
    """A function that can be stored as a job. Made by `@task` and `@app.task`.

    name, queue: as given or derived. fn: the function, with the decorators below `@task`. is_coroutine_function:
    whether calling `fn` gives a coroutine. signature: the schema of the task's calls. declared: the task's options,
    which a call may override.
    """

    def __init__(
        self,
        fn: Callable[P, Any],
        *,
        name: str,
        queue: str,
        signature: Signature,
        options: TaskOptions,
        app: Callable[[], Enqueues],
    ) -> None:
        functools.update_wrapper(cast(Any, self), fn)
        self.fn: Callable[..., Any] = fn
        self.is_coroutine_function = inspect.iscoroutinefunction(fn)
        self.name = name
        self.queue = queue
        self.signature = signature
        self.declared = options
        self._settings = NO_SETTINGS
        self._options = options
        self._app = app

    def __repr__(self) -> str:
        return f"<Task {self.signature.text} of queue {self.queue}>"

    def options(self, **keywords: Unpack[CallOptions]) -> BoundTask[P, R]:
        """Return the same task with options for the calls that it enqueues next. For the options see `CallOptions`.
        Raises DefinitionError."""
        settings = call_settings(keywords, self.name)
        check_identity(settings, has_key=self.declared.key is not None)
        if settings.result_ttl is not UNSET and settings.result_ttl is not None:
            self.signature.prepare(result=True)
        return BoundTask(self, settings)

    def prepare(self) -> None:
        """Make sure that the task can run: resolve annotations that were not defined yet. Raises DefinitionError."""
        self.signature.prepare(result=self.declared.result_ttl is not None)


class AsyncTask(Task[P, R]):
    """A task of an async function."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here, as if it were no task."""
        coroutine: Coroutine[Any, Any, R] = self.fn(*args, **kwargs)
        return coroutine


class SyncTask(Task[P, R]):
    """A task of a function that is not async."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, as if it were no task."""
        value: R = self.fn(*args, **kwargs)
        return value
