"""The app: settings, connections and tasks of one application, and the rule by which a task finds its app."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from jetq.client.call import Call, batches, check_calls
from jetq.client.decorator import Decorator, decorate
from jetq.client.default_app import AppOfCall, DefaultApp, serves
from jetq.client.job import Job
from jetq.client.registry import IMPORTED, Registry, merged
from jetq.client.request import Request
from jetq.client.session import Session
from jetq.client.task import AsyncTask, BoundTask, SyncTask, Task
from jetq.encoding.signature import decode_plain, encode_plain
from jetq.errors import DefinitionError
from jetq.migration_hints import answering
from jetq.model.definitions.checks import check_functions
from jetq.model.definitions.options import (
    CallOptions,
    TaskKeywords,
    TaskOptions,
    call_settings,
    check_identity,
    effective_options,
)
from jetq.model.job import Stored
from jetq.model.names import (
    check_job_id,
    check_queue,
    check_task,
)

if TYPE_CHECKING:
    from jetq.broker import Broker
    from jetq.client.plugins import Plugin
    from jetq.encoding.sealing import PayloadCodec
    from jetq.model.definitions.hooks import ExpiredHook, Middleware
    from jetq.model.definitions.queue import Queue
    from jetq.model.definitions.schedule import ScheduleKeywords
    from jetq.model.result import ResultRecord
    from jetq.operations.schedules import ScheduleInfo
    from jetq.settings import Settings, SettingsOptions

__all__ = ["Jetq", "Lifespan", "default_app", "replaced_default", "serves", "task"]

P = ParamSpec("P")
R = TypeVar("R")


class Lifespan(Protocol):
    """Makes the context a worker of the app runs in: entered before its first job, left after its last."""

    def __call__(self, app: Jetq, /) -> AbstractAsyncContextManager[Any]: ...


@answering("Jetq")
class Jetq:
    """An application's jobs: where they are stored, and the tasks defined on it.

    servers: one URL or several; namespace: first token of every subject. Both, and every other keyword of `Settings`,
    win over the environment (`JETQ_*`, `NATS_*`) and over `jetq.toml` or `[tool.jetq]`. middleware: outermost first.
    lifespan: the context its workers run in. on_expired: called with each job that was not started before it expired.
    queues: those that have levels or a weight. payloads: signs or encrypts arguments and results.

    The first app made is the default of every `@task`. Connects at first use. Raises SettingsError.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        middleware: Sequence[Middleware] = (),
        lifespan: Lifespan | None = None,
        on_expired: ExpiredHook | None = None,
        queues: Sequence[Queue] = (),
        payloads: PayloadCodec | None = None,
        **settings: Unpack[SettingsOptions],
    ) -> None:
        from jetq.client.client import Client  # here, and what follows: `import jetq` is to load little
        from jetq.client.settings_sources import load_settings
        from jetq.model.definitions.queue import check_queues

        self.settings: Settings = load_settings({**settings, "servers": servers, "namespace": namespace})
        self.middleware: tuple[Middleware, ...] = check_functions("middleware", middleware)
        for name, hook in (("lifespan", lifespan), ("on_expired", on_expired)):
            check_functions(name, () if hook is None else (hook,))
        self.lifespan = lifespan
        self.on_expired = on_expired
        self.queues: Mapping[str, Queue] = check_queues(queues)
        self.payloads = payloads
        self.session = Session(self._connect)
        self.client = Client(self.session)
        self._registry = Registry()
        _default.offer(self)

    async def _connect(self, *, patient: bool = False) -> Broker:
        from jetq.jetstream import connect_broker  # here, so that importing jetq does not import nats

        return await connect_broker(self.settings, name=f"jetq-{os.getpid()}", patient=patient)

    # --- tasks

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """All tasks a worker of this app can run: its own, and every imported `@task`.

        Raises DefinitionError if a name stands for two functions, or an annotation cannot be resolved.
        """
        tasks = merged(IMPORTED, self._registry)
        for each in tasks.values():
            each.prepare()
        return tasks

    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def task(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, **keywords: Unpack[TaskKeywords]) -> Decorator: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **keywords: Any) -> Any:  # type: ignore[misc]
        """Make a task of this app: `@app.task` or `@app.task(queue=...)`. See `jetq.task`."""
        return decorate(fn, keywords, self._registry, lambda _: lambda: self)

    def load_plugins(self, allow: Collection[str] | None = None) -> list[Plugin]:
        """Import the installed task plugins that `allow` names, or else the setting `plugins`. Raises PluginError."""
        from jetq.client.plugins import load

        return load(self.settings.plugins if allow is None else allow)

    # --- enqueueing

    def enqueue(self, call: Call[R]) -> Job[R]:
        """Store a bound call. Raises as `Task.delay` does."""
        check_calls((call,))
        now = self._time_for(call.timed)
        if now is None:
            return self.session.run(lambda: self.aenqueue(call))
        return self._job(call, self.client.enqueue_and_wait(self._request(call, now)))

    async def aenqueue(self, call: Call[R]) -> Job[R]:
        """`enqueue` from async code."""
        check_calls((call,))
        now = self._time_for(call.timed)
        if now is None:
            now = await self.session.time(call.queue)
        return self._job(call, await self.client.enqueue(self._request(call, now)))

    def delay_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Store many calls, of one task or several, far faster than one by one; their handles in order.

        They are stored in batches, so a generator's calls are never held at once. Raises EnqueueError, whose `job_ids`
        are those of its batch that are not, or not surely, stored; the batches before are.
        """
        jobs: list[Job[Any]] = []
        for batch in batches(calls):  # iterated here, because a generator may depend on its thread
            jobs += self.session.run(partial(self._store_batch, batch, len(jobs)))
        return jobs

    async def adelay_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """`delay_many` from async code."""
        jobs: list[Job[Any]] = []
        for batch in batches(calls):
            jobs += await self._store_batch(batch, len(jobs))
        return jobs

    async def _store_batch(self, batch: Sequence[Call[Any]], before: int) -> list[Job[Any]]:
        # The same for all, so that those of one delay are stored together.
        now = self._time_for(any(call.timed for call in batch))
        if now is None:
            now = await self.session.time(batch[0].queue)
        stored = await self.client.enqueue_many([self._request(call, now) for call in batch], before=before)
        return [self._job(call, answer) for call, answer in zip(batch, stored, strict=True)]

    def send(self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]) -> Job[Any]:
        """Enqueue the task `name` without its code: `app.send("billing.charge", {"amount": 3}, queue="billing")`.

        `arguments` are JSON values by parameter name. If this process knows the task they are checked against its
        signature, and its queue is the default. Raises as `Task.delay` does, and DefinitionError for an illegal name.
        """
        return self.session.run(lambda: self.asend(name, arguments, **options))

    async def asend(
        self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> Job[Any]:
        """`send` from async code."""
        return await self.aenqueue(self.call(name, arguments, **options))

    def call(self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]) -> Call[Any]:
        """The call `send` would store, checked and not stored."""
        settings = call_settings(options, name, "app.send")
        known = self._find(check_task(name))
        check_identity(settings, has_key=known is not None and known.declared.key is not None)
        if known is not None:
            return BoundTask(known, settings).bind_json(arguments or {})
        body = encode_plain(name, arguments or {})
        effective = effective_options(TaskOptions(), settings)  # the worker decides what the task's are
        return Call(name, settings.queue or "default", body, settings, effective, decode_plain, settings.key)

    def job(self, id: str, queue: str = "default") -> Job[Any]:
        """The handle of a job stored elsewhere or earlier. Nothing is asked until it is used.

        Its result is as annotated if its task is known here, and JSON values if not.
        """
        return Job(
            self.session,
            self.client,
            id=check_job_id(id),
            queue=check_queue(queue),
            task="",
            decode=lambda record: self._decoder(record.task)(self.open_result(id, record.task, record)),
            result_ttl=None,
            known=False,
        )

    # --- recurring schedules

    def schedule(self, name: str, call: Call[Any], **when: Unpack[ScheduleKeywords]) -> ScheduleInfo:
        """Let `call` run again and again: `app.schedule("digest", digest.bind(7), cron="0 9 * * MON", tz="UTC")`.

        Any process may do this, and again: a schedule of that name in the call's queue is written anew only if it
        differs. For the keywords see Schedule. The options of the call hold for each job, except those that name one
        time or one job. Raises DefinitionError, Rejected, NotStored, BrokerUnavailable.
        """
        return self.session.run(lambda: self.aschedule(name, call, **when))

    async def aschedule(self, name: str, call: Call[Any], **when: Unpack[ScheduleKeywords]) -> ScheduleInfo:
        """`schedule` from async code."""
        from jetq.client.declared_schedules import schedule_record
        from jetq.model.definitions.schedule import Schedule

        check_calls((call,))
        self._check_level(call)
        return await self.client.schedule(schedule_record(name, call, Schedule(**when)), call.body, self.payloads)

    def unschedule(self, name: str, queue: str | None = None) -> bool:
        """Remove the schedule of that name, in every queue unless one is given. Jobs made of it stay. False if there is
        none. One that a task's definition says comes back with the next worker: take it out there."""
        return self.session.run(lambda: self.aunschedule(name, queue))

    async def aunschedule(self, name: str, queue: str | None = None) -> bool:
        """`unschedule` from async code."""
        return await self.client.unschedule(name, queue)

    def schedules(self, queue: str | None = None) -> list[ScheduleInfo]:
        """All recurring schedules as they stand, by queue and name; of one queue if given."""
        return self.session.run(lambda: self.aschedules(queue))

    async def aschedules(self, queue: str | None = None) -> list[ScheduleInfo]:
        """`schedules` from async code."""
        return await self.client.schedules(queue, self.payloads)

    # --- payloads

    def seal_arguments(self, task: str, queue: str, body: bytes) -> bytes:
        """A job's arguments, as JSON, as they are stored: as they are without `payloads`. Raises BadPayload."""
        from jetq.encoding.sealing import PayloadContext, sealed

        return sealed(self.payloads, body, PayloadContext("arguments", task, queue=queue))

    def open_arguments(self, task: str, queue: str, body: bytes) -> bytes:
        """The JSON of a job's arguments, of the bytes that are stored. Raises BadPayload if they do not open."""
        from jetq.encoding.sealing import PayloadContext, opened

        return opened(self.payloads, body, PayloadContext("arguments", task, queue=queue))

    def open_result(self, id: str, task: str, record: ResultRecord) -> bytes:
        """The JSON of what job `id` of `task` returned. Raises BadPayload if it does not open."""
        from jetq.encoding.sealing import PayloadContext, opened

        stored = bytes(record.value) if record.sealed is None else record.sealed
        return opened(self.payloads, stored, PayloadContext("result", task, id=id))

    def _time_for(self, timed: bool) -> float | None:
        """The broker's time; None if it must be asked for that. Who needs none gets 0, and nobody looks."""
        return self.session.now() if timed else 0.0

    def _request(self, call: Call[Any], now: float) -> Request:
        self._check_level(call)
        return call.request(now, self.session.instant, self.payloads)

    def _check_level(self, call: Call[Any]) -> None:
        """Raise DefinitionError if `call` has a priority and its queue no levels."""
        level = call.effective.priority
        if level == "normal":
            return
        queue = self.queues.get(call.queue)
        if queue is None or queue.levels is None:
            raise DefinitionError(
                f"{call.task} has priority {level!r}, and queue {call.queue!r} has no levels",
                hint=f"declare them: Jetq(queues=[Queue({call.queue!r}, levels='strict')])",
            )

    def _find(self, name: str) -> Task[..., Any] | None:
        return self._registry.get(name) or IMPORTED.get(name)

    def _decoder(self, name: str) -> Callable[[bytes], Any]:
        known = self._find(name)
        return decode_plain if known is None else known.signature.decode_result

    def _job(self, call: Call[R], stored: Stored) -> Job[R]:
        return Job(
            self.session,
            self.client,
            id=stored.id,
            queue=call.queue,
            task=call.task,
            decode=lambda record: call.decode(self.open_result(stored.id, call.task, record)),
            result_ttl=call.effective.result_ttl,
            disposition=stored.disposition,
        )


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
@overload
def task(fn: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(**keywords: Unpack[TaskKeywords]) -> Decorator: ...
def task(fn: Callable[..., Any] | None = None, /, **keywords: Any) -> Any:
    """Make a task of a function, without naming an app: `@task` or `@task(queue="email", max_attempts=5)`.

    name: `module.qualname` unless given. queue: "default". For the others see `TaskOptions`; durations are seconds or
    timedelta. Each call goes to the running job's app, else to that of the workers that run here, else to the first
    `Jetq()` made, else to one from the environment; it raises DefinitionError if its module has made another one.

    Raises DefinitionError for a function or option that cannot work.
    """
    return decorate(fn, keywords, IMPORTED, _app_of)


_default = DefaultApp(Jetq)


def _app_of(fn: Callable[..., Any]) -> AppOfCall[Jetq]:
    return AppOfCall(fn, lambda: _default)  # looked up at each call, because tests replace it


def default_app() -> Jetq:
    """The first `Jetq()` made, or else one from the environment and files, made now. Raises SettingsError."""
    return _default.get()


def replaced_default(app: Jetq | None) -> AbstractContextManager[Jetq]:
    """For tests: a context in which `@task` goes to `app`. None keeps the default app, or makes one for the while."""
    return _default.replaced(app)
