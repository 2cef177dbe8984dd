"""Waiting for a job to end, whether it leaves a result, a dead letter or nothing."""

from __future__ import annotations

import asyncio
import logging
import time

from jetq.broker import Broker
from jetq.encoding.worker_status import encode, read_answers
from jetq.errors import JobNotFound, ResultError, ResultExpired, ResultTimeout
from jetq.model.failure import Failure
from jetq.model.job import State, StoredJob
from jetq.model.job_context import CURRENT
from jetq.model.names import is_of_member
from jetq.model.result import ResultRecord
from jetq.model.worker_status import StatusQuery, waits_for_itself
from jetq.operations.job_view import holder_of, stored_state
from jetq.operations.workflows.member_ends import end_of_member

__all__ = ["unknown_job", "wait_for_end"]

_log = logging.getLogger("jetq.client")

_FIRST_LOOK = 1.0
_LOOK_EVERY = 3.0
_ANSWERS_WITHIN = 2.0
_ALL_ANSWER_WITHIN = 0.5

_OFTENEST_LOOK = 0.02
_LOOKS = 10
"""A tenth of the time waited so far passes between two looks for a stored job, at most a second. The end of the job is
noticed at most that much later."""


async def wait_for_end(
    broker: Broker, queue: str, id: str, timeout: float | None, *, pushed: bool = True
) -> ResultRecord | None:
    """Return how job `id` ended, as soon as it has. Return None if the job is gone and left nothing.

    `timeout`: seconds; None waits without a bound. `pushed`: the job leaves a result, which arrives as soon as it is
    stored. Without `pushed` the job's queue is looked at, less often the longer the wait lasts. Raises ResultTimeout.
    """
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    look, complained = _FIRST_LOOK if pushed else _OFTENEST_LOOK, False
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        record = await broker.wait_result(queue, id, look if left is None else max(0.01, min(look, left)))
        if record is not None:
            return record
        found = await broker.find(queue, id)
        if found is None:
            record = await _ended(broker, queue, id)
            if record is not None:
                return record
            if not pushed:
                await asyncio.sleep(_OFTENEST_LOOK)  # a copy of the dead letters may be behind by that much
            if not pushed or await holder_of(broker, queue, id) is None:
                return await _ended(broker, queue, id)  # the job may have ended just then
        if timeout is not None and deadline is not None and time.monotonic() >= deadline:
            raise _timed_out(id, "running" if found is None else stored_state(found), timeout)
        waited = time.monotonic() - began
        if waited >= _LOOK_EVERY and not complained:
            complained = await _complain(broker, queue, id, found, deadline)
        look = _LOOK_EVERY if pushed else min(max(waited / _LOOKS, _OFTENEST_LOOK), _FIRST_LOOK)


async def _ended(broker: Broker, queue: str, id: str) -> ResultRecord | None:
    """Return how a job ended that is no longer in its queue; None if the job left nothing. A running job may not be in
    its queue either, because it was purged."""
    record = await broker.get_result(queue, id)
    if record is not None:
        return record
    for entry in await broker.dead(queue, id=id, limit=1):
        letter = entry.letter
        return ResultRecord(
            id=id,
            state="dead",
            task=letter.task,
            queue=queue,
            attempt=letter.attempt,
            sequence=letter.sequence,
            at=letter.at,
            worker=letter.worker,
            failure=letter.failure,
        )
    return await _end_of_member(broker, queue, id)


async def _end_of_member(broker: Broker, queue: str, id: str) -> ResultRecord | None:
    """Return how a member of a workflow ended, which leaves a mark in place of a result; None for other jobs. The value
    is sealed, or not, as it stands in the mark: see `Jetq.open_result`."""
    end = await end_of_member(broker, id)
    if end is None:
        return None
    if end.mark == "ok":
        return ResultRecord(id, "succeeded", "", queue, 0, end.sequence, end.at, sealed=end.body)
    failure = Failure("jetq.TaskFailed", "the step of its workflow has failed, and the steps() of that say why")
    return ResultRecord(id, "dead", "", queue, 0, end.sequence, end.at, failure=failure)


async def _complain(broker: Broker, queue: str, id: str, found: StoredJob | None, deadline: float | None) -> bool:
    """Warn if no live worker can take the job that is waited for, as far as the workers answer. Return False if the
    workers could not be asked yet."""
    left = _ANSWERS_WITHIN if deadline is None else max(0.0, deadline - time.monotonic())
    current = CURRENT.get()
    if current is not None:
        if found is None or found.state != "queued":
            return False
        answers = read_answers(await broker.ask(queue, encode(StatusQuery(id=id)), min(_ALL_ANSWER_WITHIN, left)))
        if waits_for_itself(answers, current.job.worker):
            _log.warning(
                "job %s of %s waits for job %s, which may wait for it: all %d slots of the workers of queue %s are "
                "taken, one by this job; give them more slots (--concurrency), or that task a queue and a worker "
                "of its own, or do not wait for a job in a job",
                current.job.id, current.job.task, id, sum(answer.slots for answer in answers), queue,
            )  # fmt: skip
        elif not answers:
            _log.warning("waiting: queue %r has no live worker", queue)
        return True
    if not await broker.ask(queue, encode(StatusQuery()), min(_ANSWERS_WITHIN, left), enough=1):
        _log.warning("waiting: queue %r has no live worker", queue)
    return True


def unknown_job(queue: str, id: str, expires_after: float | None) -> ResultError:
    """Return the error for a job that is not stored, does not run and left nothing."""
    if is_of_member(id):
        return JobNotFound(
            f"nothing is known of job {id} in queue {queue!r}: its turn has not come, or it is done",
            hint="a step leaves its value to its workflow: ask app.workflow(...) for the result() or the steps()",
        )
    if expires_after is None:
        return JobNotFound(
            f"nothing is known of job {id} in queue {queue!r}: "
            "there is no such job, or it is done and its result is gone",
            hint="a result is kept for the task's result_ttl, 1 h unless it says otherwise",
        )
    return ResultExpired(
        f"job {id} is done and its result is gone, or it was purged: results of this task are kept for "
        f"{expires_after:g} s",
        hint="ask earlier, or raise the task's result_ttl; what a purge removed before it ran does not run",
    )


def _timed_out(id: str, state: State, timeout: float) -> ResultTimeout:
    return ResultTimeout(
        f"job {id} is still {state} after {timeout:g} s",
        hint="it goes on all the same; wait longer, or see `jetq job show` and whether a worker serves its queue",
    )
