"""A task: a function that can be called here, or stored as a job. It never knows the app, only what enqueues for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast

from msgspec import UNSET, Struct

from jetq.client.call_keys import call_key
from jetq.client.job import Job
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError
from jetq.migration_hints import answering
from jetq.model.definitions.options import CallOptions, CallSettings, TaskOptions, Unique, call_settings, check_identity
from jetq.model.job import Level
from jetq.model.redaction import Discreet

__all__ = ["AsyncTask", "BoundTask", "Call", "Enqueues", "SyncTask", "Task", "batches", "check_calls"]

P = ParamSpec("P")
R = TypeVar("R")

_NO_OPTIONS = CallSettings()
_BATCH = 1000


@answering("Call")
class Call(Discreet, Struct, Generic[R], frozen=True):
    """A task with bound and checked arguments, not stored yet.

    body: the arguments as JSON. key: its unique key. expires: seconds from its due time after which it is not run.
    level: its priority. unique: until when its key is taken.
    """

    task: str
    queue: str
    body: bytes
    settings: CallSettings
    decode: Callable[[bytes], Any]
    result_ttl: float | None
    key: str | None = None
    expires: float | None = None
    level: Level = "normal"
    unique: Unique = "done"

    @property
    def timed(self) -> bool:
        """Whether an instant has to be made of it, which takes the broker's time."""
        settings = self.settings
        return settings.delay is not None or settings.at is not None or self.expires is not None

    def or_else(self, settings: CallSettings) -> Call[R]:
        """The same call with `settings` where it has none of its own. Raises DefinitionError if they name one job."""
        chosen = self.settings.or_else(settings)
        return Call(
            self.task,
            chosen.queue or self.queue,
            self.body,
            chosen,
            self.decode,
            self.result_ttl if chosen.result_ttl is UNSET else chosen.result_ttl,
            self.key if chosen.key is None else chosen.key,
            self.expires if chosen.expires is UNSET else chosen.expires,
            self.level if chosen.priority is None else chosen.priority,
            self.unique if chosen.unique is None else chosen.unique,
        )


def check_calls(calls: Iterable[Any]) -> None:
    """Raise ArgumentError if one of `calls` is something else, as a task or the arguments of one."""
    for call in calls:
        if not isinstance(call, Call):
            raise ArgumentError(
                f"a job is made of a call, and {type(call).__name__} is none", hint="a task makes one: add.bind(2, 3)"
            )


def batches(calls: Iterable[Call[Any]]) -> Iterator[list[Call[Any]]]:
    """`calls` in parts that are stored at once, taken one after the other. Raises ArgumentError for what is no call."""
    if not isinstance(calls, Iterable):
        check_calls((calls,))
        raise ArgumentError("delay_many takes several calls, and was given one", hint="delay_many([add.bind(2, 3)])")
    source = iter(calls)
    while batch := list(islice(source, _BATCH)):
        check_calls(batch)
        yield batch


class Enqueues(Protocol):
    """What a task needs of its app."""

    def enqueue(self, call: Call[R]) -> Job[R]: ...

    async def aenqueue(self, call: Call[R]) -> Job[R]: ...

    def delay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]: ...

    async def adelay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]: ...


@answering("Task")
class _Enqueuer(Generic[P, R]):
    """The ways to make jobs of one task, with some options."""

    name: str
    queue: str
    signature: Signature
    defaults: TaskOptions
    _settings: CallSettings
    _app: Callable[[], Enqueues]

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job and return its handle, once JetStream has stored it.

        Raises ArgumentError if the arguments do not fit (nothing is sent), Rejected if the job is surely not stored,
        NotStored if nobody knows, BrokerUnavailable if there is no connection.

        Guarantee: tests/integration/enqueueing/test_enqueue.py: it returns after the broker's acknowledgement, or
        raises in time.
        """
        return self._app().enqueue(self.bind(*args, **kwargs))

    async def adelay(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`delay` from async code."""
        return await self._app().aenqueue(self.bind(*args, **kwargs))

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """A call to be enqueued later, checked now. Raises ArgumentError."""
        settings, defaults = self._settings, self.defaults
        body = self.signature.encode(args, kwargs)
        key = settings.key
        if key is None and defaults.key is not None:
            key = call_key(defaults.key, self.signature, args, kwargs)
        if defaults.limit_per is not None:
            call_key(defaults.limit_per, self.signature, args, kwargs)  # so that what gives none fails here
        return Call(
            self.name,
            settings.queue or self.queue,
            body,
            settings,
            self.signature.decode_result,
            defaults.result_ttl if settings.result_ttl is UNSET else settings.result_ttl,
            key,
            defaults.expires if settings.expires is UNSET else settings.expires,
            settings.priority or defaults.priority,
            settings.unique or defaults.unique,
        )

    def delay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]:
        """Store many calls, far faster than one by one; their handles in order.

        Options given to this task are those of the calls which have none of their own.

        Raises EnqueueError, whose `job_ids` are those not, or not surely, stored; what came before them is.
        """
        return self._app().delay_many(self._with_options(calls))

    async def adelay_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]:
        """`delay_many` from async code."""
        return await self._app().adelay_many(self._with_options(calls))

    def _with_options(self, calls: Iterable[Call[R]]) -> Iterable[Call[R]]:
        if self._settings is _NO_OPTIONS:
            return calls
        return (call.or_else(self._settings) for call in calls)


class BoundTask(_Enqueuer[P, R]):
    """A task with options for its next calls."""

    def __init__(self, task: Task[P, R], settings: CallSettings) -> None:
        self.name = task.name
        self.queue = task.queue
        self.signature = task.signature
        self.defaults = task.defaults
        self._settings = settings
        self._app = task._app


class Task(_Enqueuer[P, R]):
    """A function that can be stored as a job. Made by `@task` and `@app.task`.

    name, queue: as given or derived. fn: the function, with the decorators below `@task`. is_coroutine_function:
    whether calling `fn` gives a coroutine. signature: the schema of its calls. defaults: its options, which a call may
    override.
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
        self.defaults = options
        self._settings = _NO_OPTIONS
        self._app = app

    def __repr__(self) -> str:
        return f"<Task {self.signature.text} of queue {self.queue}>"

    def options(self, **keywords: Unpack[CallOptions]) -> BoundTask[P, R]:
        """The same task with options for what it enqueues next. See CallOptions; raises DefinitionError."""
        settings = call_settings(keywords, self.name)
        check_identity(settings, has_key=self.defaults.key is not None)
        if settings.result_ttl is not UNSET and settings.result_ttl is not None:
            self.signature.prepare(result=True)
        return BoundTask(self, settings)

    def prepare(self) -> None:
        """Make sure that it can run: resolve annotations that were not defined yet. Raises DefinitionError."""
        self.signature.prepare(result=self.defaults.result_ttl is not None)


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
