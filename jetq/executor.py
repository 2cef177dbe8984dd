"""One attempt of one job: load, call, settle. Every attempt ends in one Outcome, and `settle` alone spends it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET, Raw
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.codec import Undecodable
from jetq.context import CURRENT, JobContext
from jetq.errors import ArgumentError, BrokerError, JobTimeout, PayloadTooLarge, Retry
from jetq.failures import bounded, capture, summarize
from jetq.leases import Leases
from jetq.model import (
    Dead,
    DeadLetter,
    DeadReason,
    Delivery,
    Failure,
    JobRecord,
    Meta,
    Outcome,
    Released,
    ResultRecord,
    Retrying,
    Snoozed,
    Succeeded,
    Superseded,
)
from jetq.policy import RetryPolicy, crashed, decide, unknown_task
from jetq.pool import ThreadLost, ThreadPool
from jetq.task import Task
from jetq.wire import BadHeader, read_meta

__all__ = ["Attempt", "Executor", "Middleware"]

_log = logging.getLogger("jetq.worker")

Middleware = Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async (job, call_next) -> value`. It may observe, wrap and raise; what it returns is the job's result."""

_NULL = Raw(b"null")
_FIRST_BACKOFF = 0.5
_LAST_BACKOFF = 5.0
_UNWINDING = 30.0
"""Seconds beyond its timeout for which an attempt's lease is renewed: its thread must end, its outcome be stored."""


class Attempt:
    """One run of one job, from its delivery to its outcome.

    runner is the asyncio task that runs it. interruptible is true just while user code runs on the loop: the only time
    at which the runner may be cancelled, because a settlement must not be. released tells a cancellation by shutdown
    from one by timeout.
    """

    __slots__ = (
        "args", "deadline", "delivery", "interruptible", "kwargs", "meta",
        "released", "runner", "started", "task", "timed_out",
    )  # fmt: skip

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.task: Task[..., Any] | None = None
        self.meta = Meta()
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.deadline: float | None = None
        self.runner: asyncio.Task[None] | None = None
        self.interruptible = False
        self.timed_out = False
        self.released = False
        self.started = 0.0

    @property
    def in_thread(self) -> bool:
        """Whether its function runs in a thread."""
        return self.task is not None and self.task.defaults.run_in == "thread"

    @property
    def name(self) -> str:
        """The task's name, or where the job stands when it has none."""
        return self.delivery.task or self.delivery.address

    def interrupt(self) -> None:
        """End user code that runs on the loop. Settlement is not interrupted."""
        if self.interruptible and self.runner is not None:
            self.runner.cancel()


class Executor:
    """Runs attempts against one broker.

    tasks maps names to what this worker can run, worker is its identity in records, threads runs sync functions.
    """

    def __init__(
        self,
        broker: Broker,
        leases: Leases,
        tasks: Mapping[str, Task[..., Any]],
        *,
        middleware: Sequence[Middleware],
        threads: ThreadPool,
        worker: str,
        app: object,
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._tasks = tasks
        self._middleware = tuple(middleware)
        self._threads = threads
        self._worker = worker
        self._app = app
        self._random = random.Random()
        self._policies: dict[str, RetryPolicy] = {}
        self._suspects = asyncio.Lock()

    async def run(self, attempt: Attempt) -> None:
        """The whole life of an attempt. Raises nothing: what cannot be settled comes back when its lease lapses."""
        if attempt.delivery.count > 1:
            await self._run_suspect(attempt)
        else:
            outcome = self.load(attempt)
            if outcome is None:
                outcome = await self.call(attempt)
            await self.settle(attempt, outcome)

    async def _run_suspect(self, attempt: Attempt) -> None:
        """A redelivered job may have killed its worker: alone of its kind, and with its start on record first."""
        if not await self._take_turn(attempt):
            await self.settle(attempt, Released())
            return
        try:
            outcome, recorded = await self._examine(attempt)
            if outcome is None:
                outcome = await self.call(attempt)
            settled = await self.settle(attempt, outcome)
            if settled and recorded:
                await self._forget_starts(attempt)
        except BrokerError as error:
            _log.warning("%s %s is left to its lease: %s", attempt.name, attempt.delivery.id, error.message)
            self._leases.drop(attempt.delivery)
        finally:
            self._suspects.release()

    async def _take_turn(self, attempt: Attempt) -> bool:
        """Wait until no other suspect runs. False if the worker is shutting down before that."""
        attempt.interruptible = True
        try:
            await self._suspects.acquire()
        except asyncio.CancelledError:
            if not attempt.released:
                raise
            self._forget_cancellation(attempt)
            return False
        finally:
            attempt.interruptible = False
        return True

    async def _examine(self, attempt: Attempt) -> tuple[Outcome | None, bool]:
        """An outcome if the suspect must not run, and whether its start is on record now."""
        delivery = attempt.delivery
        if await self._broker.superseded(delivery):
            return Superseded(), False
        outcome = self.load(attempt)
        if outcome is not None or attempt.task is None:
            return outcome, False
        starts = await self._broker.starts(delivery)
        outcome = crashed(starts, attempt.task.defaults.max_crashes)
        if outcome is None:
            await self._broker.record_start(delivery, starts + 1)
        return outcome, outcome is None

    async def _forget_starts(self, attempt: Attempt) -> None:
        try:
            await self._broker.erase_starts(attempt.delivery)
        except BrokerError as error:  # the record names a message that is gone, and expires
            _log.debug("starts of %s stay on record: %s", attempt.delivery.id, error.message)

    # --- load

    def load(self, attempt: Attempt) -> Outcome | None:
        """Read the job. An outcome if it cannot or must not run."""
        delivery = attempt.delivery
        try:
            attempt.meta = read_meta(delivery.headers)
        except BadHeader as error:
            return _dead("undecodable", "jetq.BadHeader", str(error))
        task = self._tasks.get(delivery.task)
        if task is None:
            if not delivery.task:
                return _dead("undecodable", "jetq.BadSubject", f"{delivery.address!r} is not the subject of a job")
            return unknown_task(attempt.meta, time.time(), self._tasks.keys(), delivery.task)
        attempt.task = task
        try:
            attempt.args, attempt.kwargs = task.signature.decode(delivery.body)
        except Undecodable as error:
            return _dead("undecodable", "jetq.Undecodable", str(error))
        except ArgumentError as error:
            return _dead("bad-arguments", "jetq.ArgumentError", error.message)
        except Exception as error:  # an argument's own type may raise anything, and must not make the job go round
            return Dead(reason="bad-arguments", failure=capture(error))
        return None

    # --- call

    async def call(self, attempt: Attempt) -> Outcome:
        """Run the task inside the middleware and decide what becomes of its value or error."""
        task = attempt.task
        assert task is not None
        if not self._leases.valid(attempt.delivery):
            return Superseded()  # `settle` finds the lapsed lease and touches nothing
        try:
            value = await self._invoke(attempt, task)
        except GeneratorExit:  # the loop is being torn down: nothing can be awaited any more
            raise
        except BaseException as error:
            return self._failed(attempt, task, error)
        return self._succeeded(attempt, task, value)

    async def _invoke(self, attempt: Attempt, task: Task[..., Any]) -> Any:
        attempt.started = time.monotonic()
        timeout = task.defaults.timeout if attempt.meta.timeout is UNSET else attempt.meta.timeout
        if timeout is not None:
            attempt.deadline = attempt.started + timeout
            attempt.delivery.renew_until = attempt.deadline + _UNWINDING
        context = self._context(attempt, task)
        CURRENT.set((context, self._app))
        attempt.interruptible = True
        try:
            return await self._next(attempt, task, context, 0)
        finally:
            attempt.interruptible = False
            if attempt.timed_out or attempt.released:
                self._forget_cancellation(attempt)

    def _forget_cancellation(self, attempt: Attempt) -> None:
        """Our own cancellation ended user code, or was ignored by it; the settlement must not see it."""
        if attempt.runner is not None:
            while attempt.runner.uncancel() > 0:
                pass

    def _next(self, attempt: Attempt, task: Task[..., Any], context: JobContext, depth: int) -> Awaitable[Any]:
        if depth < len(self._middleware):
            return self._middleware[depth](context, lambda: self._next(attempt, task, context, depth + 1))
        if task.defaults.run_in == "thread":
            return self._threads.run(task.fn, attempt.args, attempt.kwargs, deadline=attempt.deadline)
        result: Awaitable[Any] = task.fn(*attempt.args, **attempt.kwargs)
        return result

    def _context(self, attempt: Attempt, task: Task[..., Any]) -> JobContext:
        delivery, meta = attempt.delivery, attempt.meta
        deadline = attempt.deadline
        return JobContext(
            id=delivery.id,
            attempt=meta.attempt,
            max_attempts=meta.max_attempts or task.defaults.max_attempts,
            task=delivery.task,
            queue=delivery.queue,
            enqueued_at=_utc(delivery.stored_at if meta.enqueued is None else meta.enqueued),
            deadline=None if deadline is None else _utc(time.time() + deadline - time.monotonic()),
            worker=self._worker,
        )

    def _succeeded(self, attempt: Attempt, task: Task[..., Any], value: Any) -> Outcome:
        ttl = _result_ttl(attempt, task)
        if ttl is None:
            return Succeeded()
        try:
            return Succeeded(value=task.signature.encode_result(value), result_ttl=ttl)
        except Exception as error:  # the value's own type may raise anything
            return _dead("failed", "jetq.ResultError", f"the result cannot be stored: {capture(error).message}")

    def _failed(self, attempt: Attempt, task: Task[..., Any], error: BaseException) -> Outcome:
        if attempt.released:
            return Released()
        if isinstance(error, ThreadLost):
            return _dead("timeout", "jetq.ThreadLost", str(error))
        if attempt.timed_out and not isinstance(error, JobTimeout):
            timeout = JobTimeout(f"{attempt.name} did not finish within its timeout")
            timeout.__cause__ = error
            error = timeout
        body = None
        arguments = getattr(error, "arguments", None) if isinstance(error, Retry) else None  # a subclass may lack it
        if arguments:
            try:
                body = task.signature.merge(attempt.delivery.body, arguments)
            except Exception as bad:  # ArgumentError, or what the new arguments' own types raise
                return Dead(reason="bad-arguments", failure=capture(bad))
        return decide(
            error, attempt.meta.attempt, capture(error), self._policy(attempt, task), random=self._random, body=body
        )

    def _policy(self, attempt: Attempt, task: Task[..., Any]) -> RetryPolicy:
        policy = self._policies.get(task.name)
        if policy is None:
            options = task.defaults
            policy = self._policies[task.name] = RetryPolicy(
                max_attempts=options.max_attempts, wait=options.wait, dead_on=options.dead_on
            )
        if attempt.meta.max_attempts is not None:
            policy = replace(policy, max_attempts=attempt.meta.max_attempts)
        return policy

    # --- settle

    async def settle(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Store what the outcome leaves behind, then remove the job. False if the job is no longer this worker's.

        While the broker cannot be reached it is tried again for as long as the lease holds; after that the job is
        delivered anew, and nothing here touches it.

        Guarantee: tests/faults/test_crash_sweep.py kills the worker before and after each broker call made here.
        """
        delivery = attempt.delivery
        backoff = _FIRST_BACKOFF
        try:
            while self._leases.valid(delivery):
                try:
                    await self._store(attempt, outcome)
                    return True
                except PayloadTooLarge as error:
                    if isinstance(outcome, Dead):
                        _log.critical("%s %s cannot be dead-lettered: %s", attempt.name, delivery.id, error.message)
                        return False
                    outcome = _dead("failed", "jetq.PayloadTooLarge", f"its outcome cannot be stored: {error.message}")
                except BrokerError as error:
                    _log.warning(
                        "%s %s is not settled yet, trying again in %g s: %s",
                        attempt.name, delivery.id, backoff, error.message,
                    )  # fmt: skip
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, _LAST_BACKOFF)
            _log.warning("%s %s: its lease lapsed before it was settled; it will run again", attempt.name, delivery.id)
            return False
        finally:
            self._leases.drop(delivery)

    async def _store(self, attempt: Attempt, outcome: Outcome) -> None:
        broker, delivery = self._broker, attempt.delivery
        match outcome:
            case Succeeded(value=None) | Superseded():
                broker.finish(delivery)
            case Succeeded(value=value, result_ttl=ttl):
                assert value is not None
                await broker.put_result(self._result(attempt, "succeeded", value=Raw(value)), ttl)
                broker.finish(delivery)
            case Retrying() | Snoozed():
                job, after = self._next_attempt(attempt, outcome)
                await broker.reschedule(delivery, job, time.time() + after)
                broker.finish(delivery)
            case Dead():
                await self._store_dead(attempt, outcome)
                broker.finish(delivery)
            case Released():
                await broker.give_back(delivery, self._record(attempt, attempt.meta))
        self._log_outcome(attempt, outcome)

    async def _store_dead(self, attempt: Attempt, outcome: Dead) -> None:
        delivery = attempt.delivery
        if outcome.body is not None:  # a replay goes on where the task asked to, not where this attempt began
            delivery = replace(delivery, body=outcome.body)
        await self._broker.bury(delivery, self._letter(attempt, outcome))
        ttl = None if attempt.task is None else _result_ttl(attempt, attempt.task)
        if ttl is not None:
            try:
                failure = outcome.failure
                await self._broker.put_result(self._result(attempt, "dead", failure=failure), ttl)
            except PayloadTooLarge:  # the dead letter has it all
                short = replace(outcome.failure, traceback="", args=None)
                await self._broker.put_result(self._result(attempt, "dead", failure=short), ttl)

    def _next_attempt(self, attempt: Attempt, outcome: Retrying | Snoozed) -> tuple[JobRecord, float]:
        meta = attempt.meta
        if isinstance(outcome, Snoozed):
            meta = outcome.meta or replace(meta, snoozes=meta.snoozes + 1)
            return self._record(attempt, meta), outcome.after
        error = summarize(outcome.failure, meta.attempt, time.time(), self._worker)
        errors, dropped = bounded(meta.errors, error)
        meta = replace(meta, attempt=meta.attempt + 1, errors=errors, errors_dropped=meta.errors_dropped + dropped)
        return self._record(attempt, meta, outcome.body), outcome.after

    def _record(self, attempt: Attempt, meta: Meta, body: bytes | None = None) -> JobRecord:
        delivery = attempt.delivery
        return JobRecord(
            id=delivery.id,
            task=delivery.task,
            queue=delivery.queue,
            body=delivery.body if body is None else body,
            key=delivery.key,
            meta=replace(meta, enqueued=delivery.stored_at if meta.enqueued is None else meta.enqueued),
        )

    def _result(
        self, attempt: Attempt, state: Any, *, value: Raw = _NULL, failure: Failure | None = None
    ) -> ResultRecord:
        delivery = attempt.delivery
        return ResultRecord(
            id=delivery.id,
            state=state,
            task=delivery.task,
            queue=delivery.queue,
            attempt=attempt.meta.attempt,
            sequence=delivery.sequence,
            at=time.time(),
            worker=self._worker,
            value=value,
            failure=failure,
        )

    def _letter(self, attempt: Attempt, outcome: Dead) -> DeadLetter:
        delivery, meta = attempt.delivery, attempt.meta
        error = summarize(outcome.failure, meta.attempt, time.time(), self._worker)
        errors, dropped = bounded(meta.errors, error)
        return DeadLetter(
            id=delivery.id,
            task=delivery.task,
            queue=delivery.queue,
            key=delivery.key,
            reason=outcome.reason,
            failure=outcome.failure,
            attempt=meta.attempt,
            at=error.at,
            enqueued=delivery.stored_at if meta.enqueued is None else meta.enqueued,
            address=delivery.address,
            sequence=delivery.sequence,
            count=delivery.count,
            worker=self._worker,
            errors=errors,
            errors_dropped=meta.errors_dropped + dropped,
            snoozes=meta.snoozes,
            replays=meta.replays,
            headers=dict(delivery.headers),
        )

    def _log_outcome(self, attempt: Attempt, outcome: Outcome) -> None:
        name, delivery, meta = attempt.name, attempt.delivery, attempt.meta
        match outcome:
            case Succeeded():
                if _log.isEnabledFor(logging.DEBUG):
                    _log.debug("%s %s succeeded in %.3f s", name, delivery.id, time.monotonic() - attempt.started)
            case Retrying(after=after, failure=failure):
                _log.warning(
                    "%s %s failed: %s; attempt %d is due in %.1f s",
                    name,
                    delivery.id,
                    failure.type,
                    meta.attempt + 1,
                    after,
                )
            case Snoozed(after=after):
                _log.info("%s %s is put off for %.1f s", name, delivery.id, after)
            case Dead(reason=reason, failure=failure):
                _log.error("%s %s is dead (%s): %s; see `jetq dlq show`", name, delivery.id, reason, failure.type)
            case Released():
                _log.info("%s %s is given back", name, delivery.id)
            case Superseded():
                _log.info("%s %s was settled already", name, delivery.id)


def _dead(reason: DeadReason, type: str, message: str) -> Dead:
    return Dead(reason=reason, failure=Failure(type=type, message=message[:2000]))


def _result_ttl(attempt: Attempt, task: Task[..., Any]) -> float | None:
    return task.defaults.result_ttl if attempt.meta.result_ttl is UNSET else attempt.meta.result_ttl


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
