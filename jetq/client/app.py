"""The app: settings, connections and tasks of one application, and the rule by which a task finds its app."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from jetq.client.call import Call, Work, batches, check_calls
from jetq.client.decorator import Decorator, decorate
from jetq.client.default_app import AppOfCall, DefaultApp, serves
from jetq.client.job import Job
from jetq.client.registry import IMPORTED, Registry, merged
from jetq.client.request import Request
from jetq.client.session import Session
from jetq.client.task import AsyncTask, BoundTask, SyncTask, Task
from jetq.encoding.json_text import decode_plain
from jetq.encoding.signature import encode_plain
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
from jetq.model.job import EnqueueReceipt
from jetq.model.names import (
    check_job_id,
    check_queue,
    check_task,
    check_workflow_id,
)

if TYPE_CHECKING:
    from jetq.broker import Broker
    from jetq.client.client import Client
    from jetq.client.plugins import Plugin
    from jetq.client.workflows.workflow import Workflow
    from jetq.encoding.sealing import PayloadCodec
    from jetq.model.definitions.hooks import ExpiredHook, Middleware
    from jetq.model.definitions.options import Seconds
    from jetq.model.definitions.queue import Queue
    from jetq.model.definitions.schedule import ScheduleKeywords
    from jetq.model.result import ResultRecord
    from jetq.operations.schedules import ScheduleInfo
    from jetq.settings import Settings, SettingsOptions

__all__ = ["Jetq", "Lifespan", "default_app", "replaced_default", "serves", "task"]

P = ParamSpec("P")
R = TypeVar("R")


class Lifespan(Protocol):
    """Makes the context in which a worker of the app runs: entered before the worker's first job, left after its
    last."""

    def __call__(self, app: Jetq, /) -> AbstractAsyncContextManager[Any]: ...


@answering("Jetq")
class Jetq:
    """The jobs of an application: where they are stored, and the tasks that are defined on the app.

    servers: one URL or several. namespace: the first token of every subject. These two, and every other keyword of
    `Settings`, win over the environment (`JETQ_*`, `NATS_*`) and over `jetq.toml` or `[tool.jetq]`. middleware:
    functions around each attempt, outermost first. lifespan: makes the context in which the app's workers run.
    on_expired: called with each job that expired before it was started. queues: the queues that have levels or a
    weight. payloads: signs or encrypts arguments and results.

    The first app made is the default app of every `@task`. An app connects at its first use. Raises SettingsError.
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
        from jetq.client.client import Client  # these are imported here, so that `import jetq` loads little
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
        self.go_through(Client(Session(self._connect)))
        self._registry = Registry()
        _default.offer(self)

    def go_through(self, client: Client) -> None:
        """Send everything through `client` and its session from now on; tests give a client of their own."""
        self.client, self.session = client, client.session

    async def _connect(self, *, patient: bool = False) -> Broker:
        from jetq.jetstream import connect_broker  # here, so that importing jetq does not import nats

        return await connect_broker(self.settings, name=f"jetq-{os.getpid()}", patient=patient)

    # --- tasks

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """All tasks that a worker of this app can run: the app's own tasks, and every imported `@task`.

        Raises DefinitionError if two functions have one name, or if an annotation cannot be resolved.
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
        """Import the installed task plugins that `allow` names, and return them. Without `allow` the setting `plugins`
        names the plugins. Raises PluginError."""
        from jetq.client.plugins import load

        return load(self.settings.plugins if allow is None else allow)

    # --- enqueueing

    def enqueue(self, call: Call[R]) -> Job[R]:
        """Store a call that `bind` has made, and return the job's handle. Raises what `Task.delay` raises."""
        check_calls((call,))
        now = self._time_for(call.timed)
        if now is None:
            return self.session.run(lambda: self.aenqueue(call))
        return self._job(call, self.client.enqueue_and_wait(self._request(call, now)))

    async def aenqueue(self, call: Call[R]) -> Job[R]:
        """Do what `enqueue` does, from async code."""
        check_calls((call,))
        now = self._time_for(call.timed)
        if now is None:
            now = await self.session.time(call.queue)
        return self._job(call, await self.client.enqueue(self._request(call, now)))

    def delay_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Store many calls, of one task or several, and return their handles in order. Far faster than one call at a
        time.

        The calls are stored in batches, so that the calls of a generator are never all held at once. Raises
        EnqueueError, whose `job_ids` are the jobs of the failed batch that are not, or not surely, stored. All earlier
        batches are stored.
        """
        jobs: list[Job[Any]] = []
        for batch in batches(calls):  # iterated in the caller's thread, on which a generator may depend
            jobs += self.session.run(partial(self._store_batch, batch, len(jobs)))
        return jobs

    async def adelay_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Do what `delay_many` does, from async code."""
        jobs: list[Job[Any]] = []
        for batch in batches(calls):
            jobs += await self._store_batch(batch, len(jobs))
        return jobs

    async def _store_batch(self, batch: Sequence[Call[Any]], before: int) -> list[Job[Any]]:
        # One time for the whole batch, so that calls with the same delay are stored together.
        now = self._time_for(any(call.timed for call in batch))
        if now is None:
            now = await self.session.time(batch[0].queue)
        stored = await self.client.enqueue_many([self._request(call, now) for call in batch], before=before)
        return [self._job(call, answer) for call, answer in zip(batch, stored, strict=True)]

    def send(self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]) -> Job[Any]:
        """Enqueue the task `name` without its code: `app.send("billing.charge", {"amount": 3}, queue="billing")`.

        `arguments` are JSON values by parameter name. If this process knows the task, the arguments are checked against
        the task's signature, and the task's queue is the default. Raises what `Task.delay` raises, and DefinitionError
        for an illegal name.
        """
        return self.session.run(lambda: self.asend(name, arguments, **options))

    async def asend(
        self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> Job[Any]:
        """Do what `send` does, from async code."""
        return await self.aenqueue(self.call(name, arguments, **options))

    def call(self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]) -> Call[Any]:
        """Return the call that `send` would store: checked, but not stored."""
        settings = call_settings(options, name, "app.send")
        known = self._find(check_task(name))
        check_identity(settings, has_key=known is not None and known.declared.key is not None)
        if known is not None:
            return BoundTask(known, settings).bind_json(arguments or {})
        body = encode_plain(name, arguments or {})
        effective = effective_options(TaskOptions(), settings)  # the task's own options are known to the worker alone
        queue, key = settings.queue or "default", settings.key or None
        return Call(name, queue, body, settings, effective, decode_plain, lambda: self, key)

    def job(self, id: str, queue: str = "default") -> Job[Any]:
        """Return the handle of a job that was stored elsewhere or earlier. Nothing is asked until the handle is used.

        The job's result is decoded as annotated if this process knows the job's task, and as JSON values if not. Of a
        step of a workflow that is the value which the step has left, as JSON values, as long as the workflow is open.
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

    def workflow(self, id: str) -> Workflow[Any]:
        """Return the handle of a workflow that was stored elsewhere or earlier. Nothing is asked until the handle is
        used.

        The workflow's value is returned as JSON values, because what the work gave is not known here. Raises
        DefinitionError for what is no id.
        """
        from jetq.client.workflows.workflow import Workflow

        return Workflow(self, check_workflow_id(id), decode_plain, "existing")

    # --- recurring schedules

    def schedule(
        self, name: str, work: Work[Any], *, expires: Seconds | None = None, **when: Unpack[ScheduleKeywords]
    ) -> ScheduleInfo:
        """Let a call run again and again: `app.schedule("digest", digest.bind(7), cron="0 9 * * MON", tz="UTC")`.

        Return the schedule as it is stored. Any process may do this, any number of times: a schedule of that name in
        the call's queue is written anew only if it differs. For the keywords see `Schedule`. The options of the call
        hold for each job. A call with options about one time or one job (`delay`, `at`, `id`, `replace`, `throttle`) is
        refused. Raises DefinitionError, Rejected, NotStored, BrokerUnavailable.

        Calls that are put together are started as a workflow at each time, whose id is `<name>-<time>`. `expires`:
        seconds from that time's start to the deadline of the workflow, 31 days if not given. Raises WorkflowError for
        what cannot be a workflow, DefinitionError for a plan of more than 64 KiB.
        """
        return self.session.run(lambda: self.aschedule(name, work, expires=expires, **when))

    async def aschedule(
        self, name: str, work: Work[Any], *, expires: Seconds | None = None, **when: Unpack[ScheduleKeywords]
    ) -> ScheduleInfo:
        """Do what `schedule` does, from async code."""
        from jetq.model.definitions.schedule import Schedule

        if isinstance(work, Work) and not isinstance(work, Call):
            from jetq.client.workflows.scheduling import recurring_work

            return await self.client.schedule(*recurring_work(name, work, Schedule(**when), expires), self.payloads)
        if expires is not None:
            raise DefinitionError(
                f"schedule {name} starts one job at each time, and expires is about workflows",
                hint="give it to the call: .options(expires=60).bind(...)",
            )
        from jetq.client.declared_schedules import schedule_record

        check_calls((work,))
        self._check_level(work)
        return await self.client.schedule(schedule_record(name, work, Schedule(**when)), work.body, self.payloads)

    def unschedule(self, name: str, queue: str | None = None) -> bool:
        """Remove the schedule `name`, and return False if there is no such schedule. Without `queue` all queues are
        looked through, and the first such schedule is removed.

        Jobs that were made of the schedule stay. A schedule that a task's definition says comes back with the next
        worker: take such a schedule out of the definition.
        """
        return self.session.run(lambda: self.aunschedule(name, queue))

    async def aunschedule(self, name: str, queue: str | None = None) -> bool:
        """Do what `unschedule` does, from async code."""
        return await self.client.unschedule(name, queue)

    def schedules(self, queue: str | None = None) -> list[ScheduleInfo]:
        """Return all recurring schedules as they are stored, by queue and name; only the schedules of `queue` if
        given."""
        return self.session.run(lambda: self.aschedules(queue))

    async def aschedules(self, queue: str | None = None) -> list[ScheduleInfo]:
        """Do what `schedules` does, from async code."""
        return await self.client.schedules(queue, self.payloads)

    # --- payloads

    def seal_arguments(self, task: str, queue: str, body: bytes) -> bytes:
        """Return a job's arguments, given as JSON, as the bytes to store. Without `payloads` the bytes stay as they
        are. Raises BadPayload if sealing fails."""
        from jetq.encoding.sealing import PayloadContext, sealed

        return sealed(self.payloads, body, PayloadContext("arguments", task, queue=queue))

    def open_arguments(self, task: str, queue: str, body: bytes) -> bytes:
        """Return the JSON of a job's arguments from the stored bytes. Raises BadPayload if the bytes do not open."""
        from jetq.encoding.sealing import PayloadContext, opened

        return opened(self.payloads, body, PayloadContext("arguments", task, queue=queue))

    def open_result(self, id: str, task: str, record: ResultRecord) -> bytes:
        """Return the JSON of what job `id` of `task` returned. Raises BadPayload if the stored result does not open."""
        from jetq.encoding.sealing import PayloadContext, opened

        if not task and record.sealed is not None:  # a member of a workflow, whose mark does not name its task
            return self._open_mark(id, record.sealed)
        stored = bytes(record.value) if record.sealed is None else record.sealed
        return opened(self.payloads, stored, PayloadContext("result", task, id=id))

    def _time_for(self, timed: bool) -> float | None:
        """Return the broker's time in unix seconds; None if the broker must be asked for its time. Return 0 unless
        `timed`, because the time is not used then."""
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

    def _open_mark(self, id: str, body: bytes) -> bytes:
        from jetq.encoding.sealer import Sealer
        from jetq.operations.workflows.member_ends import member_of

        named = member_of(id)
        return body if named is None else Sealer(self.payloads).open_mark(*named, body)

    def _decoder(self, name: str) -> Callable[[bytes], Any]:
        known = self._find(name)
        return decode_plain if known is None else known.signature.decode_result

    def _job(self, call: Call[R], stored: EnqueueReceipt) -> Job[R]:
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

    name: `module.qualname` unless given. queue: "default" unless given. For the other keywords see `TaskOptions`;
    durations are seconds or timedelta. Each call goes to the app of the running job, else to the app of the workers
    that run here, else to the first `Jetq()` made, else to an app made from the environment. A call raises
    DefinitionError if the function's module has made another app.

    Raises DefinitionError for a function or option that cannot work.
    """
    return decorate(fn, keywords, IMPORTED, _app_of)


_default = DefaultApp(Jetq)


def _app_of(fn: Callable[..., Any]) -> AppOfCall[Jetq]:
    return AppOfCall(fn, lambda: _default)  # looked up at each call, because tests replace it


def default_app() -> Jetq:
    """Return the first `Jetq()` made. If there is none, make an app from the environment and files. Raises
    SettingsError."""
    return _default.get()


def replaced_default(app: Jetq | None) -> AbstractContextManager[Jetq]:
    """Give back a context, for tests, in which `@task` goes to `app`. None keeps the default app; if there is none, an
    app is made for the context."""
    return _default.replaced(app)
