"""Calls a task's function inside the middleware, in the place for its code, and until all of the code has run."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from jetq.client.task import Task
from jetq.encoding.sealer import Sealer
from jetq.encoding.sealing import PayloadCodec
from jetq.errors import RateLimited
from jetq.model.definitions.hooks import ExpiredHook, Middleware
from jetq.model.definitions.wrappers import FINISHED, check_finished, discard, has_run
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq.model.outcome import Cancelled, Outcome, Snoozed, Succeeded, Superseded, dead
from jetq.model.workflows.views import HasWorkflows
from jetq.runtime.coroutines import is_torn_down
from jetq.runtime.forks import end_child, is_child_of
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.context import context_of
from jetq.worker.attempts.error_outcomes import ErrorOutcomes
from jetq.worker.leases import Leases
from jetq.worker.policy import unraised
from jetq.worker.pools.pools import Pools

__all__ = ["Caller", "GivenUp", "ServedApp"]

_NOTHING_KEPT = Succeeded()

_UNWINDING = 30.0
"""Seconds beyond its timeout for which an attempt's lease is renewed: its thread must end, and its outcome be
stored."""

Pause = Callable[[Attempt, float], Awaitable[None]]
"""Lets no job of an attempt's task, or of the job's key, start anywhere for the given seconds."""


class GivenUp(BaseException):
    """Raised when the code of an attempt that was given up has ended: the attempt is settled already."""


class ServedApp(HasWorkflows, Protocol):
    """The parts of the app that a worker uses for each job. Everything else of the app is for the job's own code."""

    @property
    def middleware(self) -> Sequence[Middleware]:
        """The middleware that runs around each attempt, outermost first."""
        ...

    @property
    def on_expired(self) -> ExpiredHook | None:
        """The hook that is told of jobs that came too late."""
        ...

    @property
    def payloads(self) -> PayloadCodec | None:
        """The codec that seals arguments and results, and opens them."""
        ...


class Caller:
    """Calls the functions of one worker's tasks, and decides the outcome of each call.

    worker: the name that jobs are shown. pause: called for a task that has raised RateLimited.
    """

    def __init__(self, app: ServedApp, pools: Pools, leases: Leases, *, worker: str, pause: Pause) -> None:
        self._app = app
        self._middleware = tuple(app.middleware)
        self._run = pools.run
        self._leases = leases
        self._worker = worker
        self._pause = pause
        self._sealer = Sealer(app.payloads)
        self._errors = ErrorOutcomes(self._sealer)
        self._pid = os.getpid()

    async def call(self, attempt: Attempt) -> Outcome:
        """Run the task of a loaded `attempt` inside the middleware, and decide what becomes of its value or error.

        Raises GivenUp if the attempt was given up meanwhile.
        """
        task = attempt.task
        assert task is not None
        if attempt.ending == "cancel":
            return Cancelled()
        if not self._leases.valid(attempt.delivery):
            return Superseded()  # `settle` finds the lapsed lease and touches nothing
        current = self._mark_started(attempt, task)
        try:
            value = await (
                self._next(attempt, task, current, 0) if self._middleware else self._run(task, attempt, self)
            )
            if type(value) not in FINISHED:
                value = await _finish(attempt, task, value)
        except BaseException as error:
            return await self._failed(attempt, task, error)
        if attempt.given_up:
            raise GivenUp
        if is_child_of(self._pid):  # the task has forked
            end_child(None)
        attempt.interruptible = False  # user code does not run any more, and a settlement must not be cancelled
        if attempt.runner is not None and attempt.runner.cancelling():  # checked here, which saves a call for each job
            # The attempt was cancelled and has returned all the same. A settlement follows: if the cancellation cut the
            # settlement off, a job that has succeeded would run again.
            await attempt.forget_cancellation()
        return self._succeeded(attempt, task, value)

    def _mark_started(self, attempt: Attempt, task: Task[..., Any]) -> Current:
        """Note that user code runs from now on. In a process the attempt's time begins later: see `take_seat`."""
        attempt.started = time.monotonic()
        if task.declared.run_in != "process":
            _set_deadline(attempt)
        current = Current(partial(context_of, attempt, self._worker, attempt.deadline, self._app), self._app)
        CURRENT.set(current)
        attempt.interruptible = True
        return current

    def take_seat(self, attempt: Attempt) -> JobContext:
        """Begin the attempt's time, because there is a process for it now. Return what the code there may know of its
        job."""
        attempt.started = time.monotonic()
        _set_deadline(attempt)
        return context_of(attempt, self._worker, attempt.deadline, self._app)

    def wants_value(self, attempt: Attempt) -> bool:
        """Return whether the middleware or a result needs what the function returns."""
        return bool(self._middleware) or attempt.options.result_ttl is not None or attempt.meta.flow is not None

    # --- middleware

    def _next(self, attempt: Attempt, task: Task[..., Any], current: Current, depth: int) -> Awaitable[Any]:
        if depth < len(self._middleware):
            return self._middleware[depth](current.job, lambda: self._next(attempt, task, current, depth + 1))
        return self._run_to_its_end(attempt, task)

    async def _run_to_its_end(self, attempt: Attempt, task: Task[..., Any]) -> Any:
        return await _finish(attempt, task, await self._run(task, attempt, self))

    # --- its end

    async def _failed(self, attempt: Attempt, task: Task[..., Any], error: BaseException) -> Outcome:
        if is_child_of(self._pid):
            end_child(error)
        if isinstance(error, GeneratorExit) and is_torn_down(attempt.runner):
            raise error
        if attempt.given_up:
            raise GivenUp from None
        attempt.interruptible = False
        # Before anything else is awaited: a cancellation that is still on its way would cut the settlement off.
        await attempt.forget_cancellation()
        error = self._errors.decisive(attempt, error)
        outcome = self._errors.outcome(attempt, task, error)
        if isinstance(error, RateLimited) and isinstance(outcome, Snoozed):
            # Before the job leaves its gate, so that no waiting job of the task starts there in between.
            await self._pause(attempt, outcome.after)
        return outcome

    def _succeeded(self, attempt: Attempt, task: Task[..., Any], value: Any) -> Outcome:
        if type(value) not in FINISHED and (mistake := unraised(value)) is not None:
            return mistake
        ttl, is_member = attempt.options.result_ttl, attempt.meta.flow is not None
        if ttl is None and not is_member:
            return _NOTHING_KEPT
        try:
            encoded = task.signature.encode_result(value)
            if self._sealer.codec is None or is_member:  # the value of a member is sealed as its mark
                return Succeeded(value=encoded, result_ttl=ttl or 0.0)
            sealed = self._sealer.seal_result(task.name, attempt.delivery.id, encoded)
            return Succeeded(value=sealed, result_ttl=ttl or 0.0, sealed=True)
        except BaseException as error:  # the type of the value may raise anything
            message = (
                f"the result cannot be stored: {attempt.capture(error).message}; @task(result_ttl=None) keeps none"
            )
            return dead("failed", "jetq.ResultError", message)


async def _finish(attempt: Attempt, task: Task[..., Any], value: Any) -> Any:
    """Return `value`, which the task has returned, or await it: a plain wrapper of an async function returns a
    coroutine. Raises NeverRan for a generator or context manager."""
    while not has_run(value):
        if not inspect.isawaitable(value):
            check_finished(task.fn, task.name, value)
        if attempt.ending is not None:
            discard(value)
            raise asyncio.CancelledError  # the coroutine came too late to begin
        attempt.on_loop = True
        value = await value
    return value


def _set_deadline(attempt: Attempt) -> None:
    timeout = attempt.options.timeout
    if timeout is not None:
        attempt.deadline = attempt.started + timeout
        attempt.delivery.renew_until = attempt.deadline + _UNWINDING
