"""Workflows in tests: a work that runs in memory, with steps that fail as the test says, and a clock that the test
moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Literal, TypeVar, Unpack

from msgspec import Struct
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.client.app import Jetq, replaced_default
from jetq.client.call import Start, Work
from jetq.client.workflows.parts import check_work
from jetq.client.workflows.shape import Shape, shape
from jetq.client.workflows.starting import app_of, identity
from jetq.client.workflows.workflow import Workflow
from jetq.encoding.filling import filled
from jetq.encoding.sealer import Sealer
from jetq.errors import DefinitionError, Interruption, ResultTimeout, Retry, Snooze, WorkflowError
from jetq.model.dead_letter import DeadEntry
from jetq.model.definitions.keywords import Seconds
from jetq.model.job import JobRecord
from jetq.model.job_context import JobContext
from jetq.model.redaction import RedactedRepr
from jetq.model.workflows.records import WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.values import inputs_of
from jetq.testing.enqueued import check_parameters, decoded_arguments, listed
from jetq.testing.faulty import Verb
from jetq.testing.tester import AppTester, Memory, run_here
from jetq.units import seconds

__all__ = ["Flow", "StepRun", "run"]

R = TypeVar("R")

_ROUNDED = 0.001
"""Seconds. A due time is at most this much too early where it was written as a date."""


def run(work: Work[R], /, **start: Unpack[Start]) -> Flow[R]:
    """Return `work` as a workflow on an empty broker in memory, whose time passes only as the test says.

    It begins when the flow is first asked what became of it, so that the test can say before which steps fail.
    start: what `.delay` of the work takes. Raises what `.delay` raises of the work and of `start`.
    """
    check_work(work)
    shaped = shape(work)
    id, _ = identity(start)
    with replaced_default(None):  # so that no app is made for good, if there is none
        app = app_of(shaped)
    options: Start = start if "key" in start else {**start, "id": id}
    return Flow(app, work, shaped, id, options)


class StepRun(RedactedRepr, Struct, frozen=True):
    """One run of the job of a step: an attempt that has begun."""

    step: str
    """The name of the step."""

    index: int
    """The number of the member, from 0; 0 for a step of one call."""

    task: str
    """The name of the task."""

    arguments: Mapping[str, Any]
    """What the task got, by parameter name, with defaults and with the values of other steps."""

    attempt: int
    """The number of the attempt, from 1."""

    began: int
    """The place of the beginning among all beginnings and ends of runs of the flow, from 0."""

    ended: int
    """The place of the end among them."""

    error: BaseException | None = None
    """What the task has raised, or what `Flow.fail` has said; None if the task has returned."""

    def __str__(self) -> str:
        member = f"[{self.index}]" if self.index else ""
        again = "" if self.attempt == 1 else f", attempt {self.attempt}"
        failed = "" if self.error is None else f": {type(self.error).__name__}"
        return f"{self.step}{member}({listed(self.arguments)}){again}{failed}"


class Flow(Generic[R]):
    """A workflow on a broker of its own, in memory. What is ready runs, by a real worker, whenever the flow is asked.

    No other app or test sees what is stored here. All methods may be called from async code too: the tasks run on
    another loop. id: the workflow's id.
    """

    def __init__(self, app: Jetq, work: Work[R], shaped: Shape, id: str, start: Start) -> None:
        self.id = id
        self._app = app
        self._work = work
        self._shaped = shaped
        self._start = start
        self._memory = Memory()
        self._workflow: Workflow[R] | None = None
        self._runs = _Runs(app, id)
        self._faults = _StepFaults(id)
        self._memory.faults.append(self._faults)

    def __repr__(self) -> str:
        return f"<Flow {self.id}>"

    # --- what became of it

    def result(self, timeout: Seconds | None = None) -> R:
        """Let time pass until the workflow has ended, for at most `timeout` seconds, and return its value.

        None lets time pass without a bound: the workflow expires at its deadline. Raises what `Workflow.result` raises.
        """
        bound = None if timeout is None else seconds(timeout, "timeout")
        with self._running() as (tester, workflow):
            until = None if bound is None else tester.clock.now() + bound
            while run_here(workflow.astatus) == "running":
                if not self._go_on(tester, until):
                    within = "" if bound is None else f" within {bound:g} s"
                    raise ResultTimeout(
                        f"workflow {self.id} does not end{within}", hint="steps() tells what became of each step"
                    )
            return run_here(lambda: workflow.aresult(0))

    @property
    def status(self) -> WorkflowState:
        """Where the workflow is in its life. Raises JobNotFound if it ended so long ago that it is not kept."""
        with self._running() as (_, workflow):
            return run_here(workflow.astatus)

    def steps(self) -> Mapping[str, StepView]:
        """Return what became of each step, by its name. Raises JobNotFound as `status` does."""
        with self._running() as (_, workflow):
            return run_here(workflow.asteps)

    def skip_time(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let so much time pass. What falls due meanwhile runs, each at its own time: delayed steps, retries and the
        deadline. Raises ValueError for a negative time."""
        span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        if span < 0:
            raise ValueError(f"time does not run backwards: {span:g} s")
        with self._running() as (tester, _):
            until = tester.clock.now() + span
            while self._go_on(tester, until):
                pass
            tester.clock.advance(until - tester.clock.now())
            tester.run_until_empty()

    def retry(self, *, step: str | None = None, expires: Seconds | None = None) -> int:
        """Run again what has failed, as `Workflow.retry` does, and return how many members that are."""
        with self._running() as (tester, workflow):
            again = run_here(lambda: workflow.aretry(step=step, expires=expires))
            tester.run_until_empty()
            return again

    def cancel(self) -> Literal["cancelled", "finished"]:
        """Stop the workflow, as `Workflow.cancel` does."""
        with self._running() as (tester, workflow):
            answer = run_here(workflow.acancel)
            tester.run_until_empty()
            return answer

    # --- what is to go wrong

    def fail(self, step: str, error: BaseException | type[BaseException], *, index: int | None = None) -> None:
        """Let a step die with `error` in place of running, without further attempts: each of its members once, or only
        member `index`. What `retry` runs again runs as it is.

        Raises WorkflowError for a step that the workflow does not have, or of which a job is stored already,
        DefinitionError for an error that is no failure of a task.
        """
        made = error() if isinstance(error, type) else error
        if not isinstance(made, Exception) or isinstance(made, Snooze | Retry | Interruption):
            raise DefinitionError(f"a step fails with an exception that ends its job, not with {error!r}")
        self._check_step(step)
        if self._workflow is not None and self._has_begun(step, index):
            raise WorkflowError(
                f"step {step} of the flow has begun, and does not fail any more",
                hint="call fail before anything else of the flow",
            )
        self._faults.add(step, index, made)

    def _has_begun(self, step: str, index: int | None) -> bool:
        """Return whether a job of the step, or of its one member, is stored."""
        prefix = f":{step}:" if index is None else f":{step}:{index}"
        for found in self._memory.store.stored_jobs():
            _, mark, member = found.delivery.id.rpartition(prefix)
            if mark and (index is None or not member):
                return True
        return self.steps()[step].state == "succeeded"

    # --- what the plan says, and what has run

    def waits_for(self, step: str) -> set[str]:
        """Return the names of the steps for which `step` waits itself. Nothing runs for that. Raises WorkflowError for
        a step that the workflow does not have."""
        self._check_step(step)
        return {edge.source for edge in self._shaped.steps[step].edges}

    def ran(self, step: str | None = None) -> list[StepRun]:
        """Return the runs of the flow's jobs that have ended, in the order in which they began; only those of `step` if
        given. Raises WorkflowError for a step that the workflow does not have."""
        if step is not None:
            self._check_step(step)
        with self._running():
            return sorted((each for each in self._runs.ended if step in (None, each.step)), key=lambda each: each.began)

    def assert_ran(self, step: str, /, **arguments: Any) -> StepRun:
        """Fail unless a job of `step` has run with these arguments, and any others. Return the first such run.

        Raises ArgumentError for a name that is no parameter of the task.
        """
        runs = self._with(step, arguments)
        if not runs:
            raise AssertionError(f"no {step}({listed(arguments)}) has run; these have:\n{self._told()}")
        return runs[0]

    def assert_not_ran(self, step: str, /, **arguments: Any) -> None:
        """Fail if a job of `step` has run with these arguments, and any others. Raises as `assert_ran` does."""
        runs = self._with(step, arguments)
        if runs:
            raise AssertionError(f"has run: {runs[0]}")

    def assert_order(self, *steps: str) -> None:
        """Fail unless all of `steps` have run, each of them after the one before it: no member began before the last
        member of that had ended. Raises WorkflowError for a step that the workflow does not have."""
        before: list[StepRun] = []
        for step in steps:
            runs = self.ran(step)
            if not runs:
                raise AssertionError(f"step {step} has not run; these have:\n{self._told()}")
            if before and runs[0].began < max(each.ended for each in before):
                raise AssertionError(f"step {step} began before {before[0].step} had ended:\n{self._told()}")
            before = runs

    def _with(self, step: str, arguments: Mapping[str, Any]) -> list[StepRun]:
        runs = self.ran(step)
        if step in self._shaped.calls:
            task = self._app.tasks.get(self._shaped.calls[step].task)
            if task is not None:
                check_parameters(task, arguments)
        return [run for run in runs if all(run.arguments.get(k, _NONE) == v for k, v in arguments.items())]

    def _told(self) -> str:
        return "\n".join(f"  {run}" for run in self.ran()) or "  nothing"

    def _check_step(self, step: str) -> None:
        if step not in self._shaped.steps:
            raise WorkflowError(
                f"the workflow has no step {step!r}", hint=f"its steps: {', '.join(self._shaped.steps)}"
            )

    # --- running

    @contextmanager
    def _running(self) -> Iterator[tuple[AppTester, Workflow[R]]]:
        """Give the tester and the handle of the workflow, all of whose ready jobs have run."""
        middleware = self._app.middleware
        with self._memory.used_by(self._app) as tester:
            self._app.middleware = (self._runs.watch, self._faults.watch, *middleware)
            try:
                if self._workflow is None:
                    self._workflow = run_here(lambda: self._work.adelay(**self._start))
                tester.run_until_empty()
                yield tester, self._workflow
            finally:
                self._app.middleware = middleware

    def _go_on(self, tester: AppTester, until: float | None) -> bool:
        """Move the clock to the next job that is due by `until`, and run what is ready then. Return False if there is
        none."""
        now = tester.clock.now()
        dues = [found.due for found in self._memory.store.stored_jobs() if found.due is not None]
        due = min(dues, default=None)
        if due is None or (until is not None and due > until):
            return False
        tester.clock.advance(max(0.0, due - now) + _ROUNDED)
        tester.run_until_empty()
        return True


_NONE = object()
"""Equal to no argument."""


class _Runs:
    """The runs of the jobs of workflow `id`."""

    def __init__(self, app: Jetq, id: str) -> None:
        self.ended: list[StepRun] = []
        self._app = app
        self._id = id
        self._moments = 0

    async def watch(self, job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Note a run. This is a middleware."""
        if job.step is None or job.workflow is None or job.workflow.id != self._id:
            return await call_next()
        arguments, began = await self._arguments(job, job.step), self._moment()
        error: BaseException | None = None
        try:
            return await call_next()
        except BaseException as raised:
            error = raised
            raise
        finally:
            ended = self._moment()
            self.ended.append(StepRun(job.step, job.index, job.task, arguments, job.attempt, began, ended, error))

    def _moment(self) -> int:
        self._moments += 1
        return self._moments - 1

    async def _arguments(self, job: JobContext, step: str) -> Mapping[str, Any]:
        """Return the arguments of a member that runs: those of its job, with the values of other steps."""
        broker, app = await self._app.session.broker(), self._app
        found = await broker.find(job.queue, job.id)
        life, _ = await open_life(broker, Sealer(app.payloads), self._id)
        if found is None or life is None:  # it was cancelled as it began
            return {}
        body = app.open_arguments(job.task, job.queue, found.delivery.body)
        if life.plan.steps[step].callback is None:
            body = filled(body, await inputs_of(life, step, job.index))
        return decoded_arguments(body, app.tasks.get(job.task))


class _StepFaults:
    """The members of workflow `id` that are to die. Such a job is stored with one attempt only, which raises."""

    def __init__(self, id: str) -> None:
        self._id = id
        self._errors: dict[tuple[str, int | None], Exception] = {}
        self._spent: set[tuple[str, int]] = set()
        self._dying: dict[str, Exception] = {}
        self._attempts: dict[str, int | None] = {}

    def add(self, step: str, index: int | None, error: Exception) -> None:
        """Let each member of a step die once, or only member `index`."""
        self._errors[step, index] = error
        self._spent = {each for each in self._spent if each[0] != step or index not in (None, each[1])}

    async def watch(self, job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Raise the error of a job that is to die. This is a middleware, and must be the innermost of the tester's."""
        if (error := self._dying.pop(job.id, None)) is not None:
            raise error
        return await call_next()

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name == "enqueue_many":
            return partial(self._enqueue_many, verb)
        return partial(self._replay, verb) if name == "replay" else verb

    async def _enqueue_many(self, verb: Verb, jobs: Sequence[JobRecord], **options: Any) -> Any:
        return await verb([self._dealt(job) for job in jobs], **options)

    async def _replay(self, verb: Verb, entry: DeadEntry, job: JobRecord) -> Any:
        return await verb(entry, self._dealt(job))

    def _dealt(self, job: JobRecord) -> JobRecord:
        """Return `job` as it is to be stored: with one attempt if it is to die, and else as many as it had before."""
        place = job.meta.flow
        if place is None or place.workflow != self._id or job.task == WATCH:
            return job
        error = self._error(place.step, place.member) if job.id not in self._dying else self._dying[job.id]
        if error is not None:
            self._dying[job.id] = error
            self._attempts.setdefault(job.id, job.meta.max_attempts)
            return replace(job, meta=replace(job.meta, max_attempts=1))
        if job.id in self._attempts:  # a letter keeps the one attempt
            return replace(job, meta=replace(job.meta, max_attempts=self._attempts[job.id]))
        return job

    def _error(self, step: str, index: int) -> Exception | None:
        """Return the error with which a member is to die now; None if it is not, or has done so."""
        if (step, index) in self._spent:
            return None
        error = self._errors.get((step, index), self._errors.get((step, None)))
        if error is not None:
            self._spent.add((step, index))
        return error
