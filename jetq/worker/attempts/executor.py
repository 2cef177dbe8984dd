"""One attempt of one job: load, call, settle. Every attempt ends in one Outcome, and `settle` alone spends it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from jetq.broker import Broker
from jetq.client.task import Task
from jetq.encoding.headers import BadHeader, NewerHeader, read_meta, read_off
from jetq.encoding.sealing import PayloadCodec, PayloadContext, opened, sealed
from jetq.encoding.signature import Undecodable
from jetq.errors import ArgumentError, BadPayload, BrokerError, JobTimeout, RateLimited, Retry
from jetq.model.definitions.wrappers import FINISHED, NeverRan
from jetq.model.job import Delivery
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq.model.outcome import (
    Cancelled,
    Dead,
    Expired,
    InLine,
    Needs,
    Outcome,
    PutOff,
    Released,
    Snoozed,
    Succeeded,
    Superseded,
    dead,
    stray,
)
from jetq.runtime.forks import end_child, is_child_of
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.attempts.calling import Caller, Middleware
from jetq.worker.attempts.handover import SETTLED_AFTER, Handover
from jetq.worker.attempts.needs import lacking_arguments, other_name
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.attempts.suspects import Suspects
from jetq.worker.leases import Leases
from jetq.worker.limits.limits import Limits
from jetq.worker.policy import RetryPolicy, decide, decisive, process_died, put_off, unknown_task, unraised
from jetq.worker.pools.errors import ProcessDied, ThreadLost
from jetq.worker.pools.processes import ProcessPool
from jetq.worker.pools.threads import ThreadPool

__all__ = ["Executor", "ExpiredHook", "GivenUp"]

_log = logging.getLogger("jetq.worker")

_NOTHING_KEPT = Succeeded()

_UNWINDING = 30.0
"""Seconds beyond its timeout for which an attempt's lease is renewed: its thread must end, its outcome be stored."""

_HOOK_WITHIN = 10.0
"""Seconds for a hook that is told of an expired job."""

ExpiredHook = Callable[[JobContext], Awaitable[None]]
"""`async (job) -> None`, called before a job that was not started in time is removed."""


class GivenUp(BaseException):
    """An attempt's code has ended that was given up: it is settled already."""


class Executor:
    """Runs attempts against one broker.

    tasks maps names to what this worker can run, worker is its identity in records, threads and processes run
    sync functions.
    """

    def __init__(
        self,
        broker: Broker,
        leases: Leases,
        tasks: Mapping[str, Task[..., Any]],
        *,
        settlement: Settlement,
        limits: Limits,
        handover: Handover,
        middleware: Sequence[Middleware],
        on_expired: ExpiredHook | None,
        threads: ThreadPool,
        processes: ProcessPool,
        worker: str,
        app: object,
        payloads: PayloadCodec | None,
        suspects: Suspects,
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._tasks = tasks
        self._misnamed: set[str] = set()
        self._settlement = settlement
        self._limits = limits
        self._handover = handover
        self._on_expired = on_expired
        self._caller = Caller(middleware, threads, processes, self._take_seat)
        self._worker = worker
        self._app = app
        self._payloads = payloads
        self._random = random.Random()
        self._suspects = suspects
        # A process of its own that dies is charged exactly, and with no start on record.
        options = {name: task.defaults for name, task in tasks.items()}
        self._once = {name for name, each in options.items() if each.max_crashes == 1 and each.run_in != "process"}
        self._hooks: set[asyncio.Task[None]] = set()
        self._pid = os.getpid()
        if self._once:
            _log.info("jobs of %s run alone, each in its turn: their max_crashes is 1", ", ".join(sorted(self._once)))

    async def run(self, attempt: Attempt) -> None:
        """The whole life of an attempt. Raises nothing: what cannot be settled comes back when its lease lapses."""
        if attempt.delivery.count > 1:
            if await self._recalled(attempt):
                await self._run_suspect(attempt)
            return
        if self._once and attempt.delivery.task in self._once:
            await self._run_suspect(attempt)
            return
        outcome = self.load(attempt)
        if outcome is None:
            limited = self._limits.concern(attempt)
            outcome = await (self._call_within_limits(attempt) if limited else self.call(attempt))
        elif isinstance(outcome, Expired):
            await self._tell_expired(attempt)
        if self._settlement.begin(attempt, outcome):
            return
        try:
            await self._settlement.settle(attempt, outcome)
        finally:
            if isinstance(outcome, InLine):
                self._limits.lined_up(outcome)

    async def _call_within_limits(self, attempt: Attempt) -> Outcome:
        limits = self._limits
        outcome = await limits.enter(attempt, limits.find(attempt))
        if outcome is not None:
            return outcome
        try:
            if self._has_expired(attempt):  # while it waited
                await self._tell_expired(attempt)
                return Expired()
            return await self.call(attempt)
        finally:
            limits.leave(attempt)

    async def _recalled(self, attempt: Attempt) -> bool:
        """What was kept of it is known now, if anything. False if it must not run and was dealt with."""
        try:
            outcome = await self._settlement.recall(attempt)
        except BrokerError as error:
            _log.warning("%s %s is left to its lease: %s", attempt.name, attempt.delivery.id, error.message)
            self._leases.drop(attempt.delivery)
            return False
        if outcome is None:
            return True
        attempt.task = self._tasks.get(attempt.delivery.task)  # for how long its result is kept
        await self._settlement.settle(attempt, Cancelled() if attempt.cancelled else outcome)
        return False

    async def _run_suspect(self, attempt: Attempt) -> None:
        """A redelivered job may have killed its worker: nothing of the user's runs before its turn has come and its
        start is on record. The same for one that may be started once only."""
        outcome: Outcome | None = None
        try:
            outcome = await self._recognize_suspect(attempt)
            if outcome is None and self._limits.concern(attempt):
                outcome = await self._enter_as_suspect(attempt)
            if outcome is None:
                outcome = await self._suspects.begin(attempt)
            if outcome is None:
                outcome = await self._load_and_tell(attempt)
            if outcome is None:
                outcome = await self.call(attempt)
            if await self._settlement.settle(attempt, outcome):
                await self._suspects.acquit(attempt)
        except BrokerError as error:
            _log.warning("%s %s is left to its lease: %s", attempt.name, attempt.delivery.id, error.message)
            self._leases.drop(attempt.delivery)
        finally:
            self._suspects.end(attempt)
            self._limits.leave(attempt)
            if isinstance(outcome, InLine):
                self._limits.lined_up(outcome)

    async def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Settle an attempt without a run."""
        await self._settlement.settle(attempt, outcome)

    async def settle_given_up(self, attempt: Attempt, outcome: Outcome, *, goes_on: bool) -> None:
        """Settle an attempt whose code has not ended. goes_on: it may for long, and its places go to others."""
        if goes_on:
            self._limits.leave(attempt)
        if await self._settlement.settle(attempt, outcome):
            await self._suspects.acquit(attempt)
        if goes_on:
            self._suspects.end(attempt)

    async def _recognize_suspect(self, attempt: Attempt) -> Outcome | None:
        outcome = self._recognize(attempt)
        if isinstance(outcome, PutOff) and self._has_expired(attempt):
            return None  # it is not put off: the hook is told of it, and that is the user's
        if outcome is not None and await self._broker.superseded(attempt.delivery):
            return Superseded()
        return outcome

    async def _enter_as_suspect(self, attempt: Attempt) -> Outcome | None:
        """Wait for its limits. Not within its turn, which others wait for; but what they are is asked within one."""
        outcome = await self._suspects.begin(attempt)
        if outcome is None:
            outcome = await self._load_and_tell(attempt)
        if outcome is not None:
            return outcome
        ways = self._limits.find(attempt)
        outcome = await self._suspects.interrupt(attempt)
        return await self._limits.enter(attempt, ways) if outcome is None else outcome

    async def _load_and_tell(self, attempt: Attempt) -> Outcome | None:
        outcome = self.load(attempt)
        if isinstance(outcome, Expired):
            await self._tell_expired(attempt)
        return outcome

    # --- load

    def load(self, attempt: Attempt) -> Outcome | None:
        """Read the job. An outcome if it cannot or must not run.

        Guarantee: tests/integration/bad_input/test_fuzzed_frames.py: whatever was stored is run, or dead with its
        bytes, once.
        """
        outcome = self._recognize(attempt)
        if outcome is None and attempt.task is not None:
            outcome = self._decode(attempt, attempt.task)
        if attempt.cancelled:
            return Cancelled()
        if (outcome is None or isinstance(outcome, PutOff)) and self._has_expired(attempt):
            return Expired()
        return outcome

    def _has_expired(self, attempt: Attempt) -> bool:
        expires = attempt.meta.expires
        return expires is not None and self._broker.now() > expires

    async def _tell_expired(self, attempt: Attempt) -> None:
        if self._on_expired is None:
            return
        telling = asyncio.create_task(self._call_hook(self._on_expired, attempt), name="jetq-on-expired")
        self._hooks.add(telling)
        telling.add_done_callback(self._hooks.discard)
        _, hangs = await asyncio.wait([telling], timeout=_HOOK_WITHIN)
        if hangs:
            name, id = attempt.name, attempt.delivery.id
            _log.error("the hook for the expired %s %s does not end; the job goes without it", name, id)
            telling.cancel()

    async def _call_hook(self, hook: ExpiredHook, attempt: Attempt) -> None:
        try:
            await hook(self._context(attempt, None))
        except BaseException as error:  # user code, whose errors must not make the job go round, or end the worker
            if isinstance(error, GeneratorExit) and _is_torn_down():
                raise
            if isinstance(error, asyncio.CancelledError) and (this := asyncio.current_task()) and this.cancelling():
                return  # it was given up, and the log has that
            _log.exception("the hook for the expired %s %s failed", attempt.name, attempt.delivery.id)

    def _recognize(self, attempt: Attempt) -> Outcome | None:
        """What the job is, without any code of the user's. An outcome if it cannot run."""
        delivery = attempt.delivery
        try:
            meta = read_meta(delivery.headers)
            attempt.meta = meta if attempt.kept is None else attempt.kept[0].meta
        except NewerHeader as error:
            needs, newer = Needs(delivery.task, v=error.v), dead("undecodable", "jetq.NewerHeader", str(error))
            return self._put_off(attempt, needs, newer) if delivery.task else newer
        except BadHeader as error:
            return dead("undecodable", "jetq.BadHeader", str(error))
        task = self._tasks.get(delivery.task)
        if task is None:
            if not delivery.task:
                return stray(delivery.address)
            self._warn_of_other_name(delivery.task)
            return self._put_off(attempt, Needs(delivery.task), unknown_task(self._tasks.keys(), delivery.task))
        attempt.task = task
        return None

    def _decode(self, attempt: Attempt, task: Task[..., Any]) -> Outcome | None:
        delivery, body = attempt.delivery, attempt.delivery.body
        try:
            if self._payloads is not None:
                body = self._opened(delivery)
            attempt.args, attempt.kwargs = task.signature.decode(body)
        except BadPayload as error:
            return dead("undecodable", "jetq.BadPayload", error.message)
        except Undecodable as error:
            return self._undecodable(delivery, error)
        except ArgumentError as error:
            wrong, lacking = dead("bad-arguments", "jetq.ArgumentError", error.message), lacking_arguments(task, body)
            return wrong if lacking is None else self._put_off(attempt, lacking, wrong)
        except BaseException as error:  # an argument's own type may raise anything, and must not make the job go round
            if isinstance(error, Exception):
                return Dead(reason="bad-arguments", failure=attempt.capture(error))
            return self._failed(attempt, task, error)
        return None

    def _put_off(self, attempt: Attempt, needs: Needs, otherwise: Dead) -> PutOff | Dead:
        """Back to the queue, for a worker whose code is another one; `otherwise` once it is known that there is none.

        Guarantee: tests/faults/test_mixed_fleet.py.
        """
        delivery = attempt.delivery
        off, able = read_off(delivery.headers), self._handover.knows_of(delivery.queue, needs)
        since = attempt.meta.unknown_since if off.since is None else off.since
        outcome = put_off(needs, since, off.looks, self._broker.now(), able=able)
        if outcome is None and not self._handover.settled:  # who can has not been heard yet, for it asks nobody
            return PutOff(SETTLED_AFTER, needs, since or self._broker.now(), off.looks)
        return otherwise if outcome is None else outcome

    def _warn_of_other_name(self, task: str) -> None:
        """Once for a task that is here under another name: its producer and this worker import it differently."""
        here = None if task in self._misnamed else other_name(task, self._tasks)
        if here is not None:
            self._misnamed.add(task)
            _log.warning(
                "the task %s is called %s in this worker, as it seems because its module was imported under another "
                "name: import it by one name everywhere, here by `jetq worker %s`, where the producer runs too",
                task, here, task.rpartition(".")[0],
            )  # fmt: skip

    def _opened(self, delivery: Delivery) -> bytes:
        return opened(self._payloads, delivery.body, _arguments_of(delivery))

    def _undecodable(self, delivery: Delivery, error: Undecodable) -> Outcome:
        try:
            self._opened(delivery)  # without a codec nobody has looked yet whether it takes one
        except BadPayload as bad:
            return dead("undecodable", "jetq.BadPayload", bad.message)
        return dead("undecodable", "jetq.Undecodable", str(error))

    # --- call

    async def call(self, attempt: Attempt) -> Outcome:
        """Run the task inside the middleware and decide what becomes of its value or error."""
        task = attempt.task
        assert task is not None
        if attempt.cancelled:
            return Cancelled()
        if not self._leases.valid(attempt.delivery):
            return Superseded()  # `settle` finds the lapsed lease and touches nothing
        current = self._begin(attempt, task)
        try:
            value = await self._caller.call(attempt, task, current)
            if type(value) not in FINISHED:
                value = await self._caller.finish(attempt, task, value)
        except BaseException as error:
            if is_child_of(self._pid):
                end_child(error)
            if isinstance(error, GeneratorExit) and _is_torn_down(attempt.runner):
                raise
            if attempt.given_up:
                raise GivenUp from None
            attempt.interruptible = False
            await attempt.forget_cancellation()  # what follows is a settlement: cut off, it would leave the job
            error = decisive(error, _policy(attempt), first=(ProcessDied, ThreadLost, NeverRan))
            outcome = self._failed(attempt, task, error)
            if isinstance(error, RateLimited) and isinstance(outcome, Snoozed):
                await self._limits.pause(attempt, outcome.after)
            return outcome
        if attempt.given_up:
            raise GivenUp
        if is_child_of(self._pid):  # the task has forked
            end_child(None)
        attempt.interruptible = False  # user code does not run any more
        if attempt.runner is not None and attempt.runner.cancelling():  # without a call more for each job
            await attempt.forget_cancellation()
        return self._succeeded(attempt, task, value)

    def _begin(self, attempt: Attempt, task: Task[..., Any]) -> Current:
        """From now on user code runs."""
        attempt.started = time.monotonic()
        if task.defaults.run_in != "process":
            self._set_deadline(attempt)
        current = Current(partial(self._context, attempt, attempt.deadline), self._app)
        CURRENT.set(current)
        attempt.interruptible = True
        return current

    def _set_deadline(self, attempt: Attempt) -> None:
        timeout = attempt.options.timeout
        if timeout is not None:
            attempt.deadline = attempt.started + timeout
            attempt.delivery.renew_until = attempt.deadline + _UNWINDING

    def _take_seat(self, attempt: Attempt, task: Task[..., Any]) -> JobContext:
        """There is a process for it, and only now its time begins."""
        attempt.started = time.monotonic()
        self._set_deadline(attempt)
        return self._context(attempt, attempt.deadline)

    def _context(self, attempt: Attempt, deadline: float | None) -> JobContext:
        delivery, meta = attempt.delivery, attempt.meta
        return JobContext(
            id=delivery.id,
            attempt=meta.attempt,
            max_attempts=attempt.options.max_attempts,
            task=delivery.task,
            queue=delivery.queue,
            enqueued_at=_utc(delivery.stored_at if meta.enqueued is None else meta.enqueued),
            # By this machine's clock, which the task reads to see how much is left.
            deadline=None if deadline is None else _utc(time.time() + deadline - time.monotonic()),
            worker=self._worker,
            schedule=meta.schedule,
            nominal=None if meta.nominal is None else _utc(meta.nominal),
            _cancel=attempt.cancel_signal,
        )

    def _succeeded(self, attempt: Attempt, task: Task[..., Any], value: Any) -> Outcome:
        if type(value) not in FINISHED and (mistake := unraised(value)) is not None:
            return mistake
        ttl = attempt.options.result_ttl
        if ttl is None:
            return _NOTHING_KEPT
        try:
            encoded = task.signature.encode_result(value)
            if self._payloads is None:
                return Succeeded(value=encoded, result_ttl=ttl)
            context = PayloadContext("result", task.name, id=attempt.delivery.id)
            return Succeeded(value=sealed(self._payloads, encoded, context), result_ttl=ttl, sealed=True)
        except BaseException as error:  # the value's own type may raise anything
            told = f"the result cannot be stored: {attempt.capture(error).message}; @task(result_ttl=None) keeps none"
            return dead("failed", "jetq.ResultError", told)

    def _failed(self, attempt: Attempt, task: Task[..., Any], error: BaseException) -> Outcome:
        if attempt.cancelled:
            return Cancelled()
        if attempt.ending == "release" and not (isinstance(error, ThreadLost) and error.at_timeout):
            asked = self._asked_arguments(attempt, task, error)
            return asked if isinstance(asked, Dead) else Released(asked)
        if isinstance(error, ProcessDied):
            _log.warning("%s %s: %s", attempt.name, attempt.delivery.id, error.message)
            return process_died(attempt.meta, task.defaults.max_crashes, attempt.capture(error))
        if isinstance(error, NeverRan):
            return dead("failed", "jetq.NeverRan", str(error))
        if isinstance(error, ThreadLost):
            return dead("timeout", "jetq.ThreadLost", str(error))
        if attempt.ending == "timeout" and not isinstance(error, JobTimeout):
            timeout = JobTimeout(f"{attempt.name} did not finish within its timeout")
            timeout.__cause__ = error
            error = timeout
        body = self._asked_arguments(attempt, task, error)
        if isinstance(body, Dead):
            return body
        failure = attempt.capture(error)
        return decide(error, attempt.meta.attempt, failure, _policy(attempt), random=self._random, body=body)

    def _asked_arguments(self, attempt: Attempt, task: Task[..., Any], error: BaseException) -> bytes | Dead | None:
        """The arguments of the next attempt, if `error` is a Retry that asks for others."""
        arguments = getattr(error, "arguments", None) if isinstance(error, Retry) else None  # a subclass may lack it
        if not arguments:
            return None
        try:
            delivery = attempt.delivery
            body = task.signature.merge(self._opened(delivery), arguments)
            return sealed(self._payloads, body, _arguments_of(delivery))
        except BaseException as bad:  # ArgumentError, or what the new arguments' own types or the codec raise
            return Dead(reason="bad-arguments", failure=attempt.capture(bad))


def _policy(attempt: Attempt) -> RetryPolicy:
    options = attempt.options
    return RetryPolicy(options.max_attempts, options.wait, options.dead_on, options.retry_on)


def _is_torn_down(task: asyncio.Task[Any] | None = None) -> bool:
    """Whether a GeneratorExit is the end of its coroutine, which `task` ran, and not somebody's who raises it: nothing
    can be awaited any more then."""
    try:
        running = asyncio.current_task()
    except RuntimeError:
        return True
    return running is None if task is None else running is not task


def _arguments_of(delivery: Delivery) -> PayloadContext:
    return PayloadContext("arguments", delivery.task, queue=delivery.queue)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
