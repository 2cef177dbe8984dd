"""Jobs as values: storing them, and asking what became of one. `jetq.job` makes handles of what this returns."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jetq.client.request import Request
from jetq.client.session import Closed, Session
from jetq.encoding.sealing import PayloadCodec
from jetq.errors import (
    BrokerError,
    BrokerUnavailable,
    Denied,
    EnqueueError,
    JobNotFound,
    NotSent,
    NotStored,
    Rejected,
    ResultError,
    ResultExpired,
    ResultTimeout,
)
from jetq.model.job import Debounce, Found, JobRecord, State, Stored
from jetq.model.job_context import CURRENT
from jetq.model.names import NO_KEY
from jetq.model.result import ResultRecord
from jetq.model.schedule import ScheduleRecord
from jetq.model.worker_status import StatusQuery, encode, read_answers, waits_for_itself
from jetq.operations.cancel import Cancellation, cancel
from jetq.operations.job_view import JobView, holder_of, standing_state, state_of, view_job
from jetq.operations.reschedule import move_job
from jetq.operations.schedules import (
    ScheduleInfo,
    find_schedule,
    list_schedules,
    put_schedule,
    remove_schedule,
    view_schedule,
)

if TYPE_CHECKING:
    from jetq.broker import Broker

__all__ = ["Client"]

_log = logging.getLogger("jetq.client")

_FIRST_LOOK = 1.0
_LOOK_EVERY = 3.0
_ANSWERS_WITHIN = 2.0
_ALL_ANSWER_WITHIN = 0.5

_OFTENEST_LOOK = 0.02
_LOOKS = 10
"""Who looks whether a job stands learns of its end this much later: a tenth of what it took, and a second at most."""


class Client:
    """What producers and callers do, on the running loop's connection."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def enqueue(self, request: Request) -> Stored:
        """Store a job. Raises Rejected (NotSent without a connection) or NotStored, with the job's id."""
        try:
            broker = self._session.connected()
            if broker is None or request.throttle is not None:
                return await self._store(request)
            return await broker.enqueue(request.job, due=request.due, debounce=request.debounce)
        except BrokerError as error:
            raise _about(error, request) from error.__cause__

    def enqueue_and_wait(self, request: Request) -> Stored:
        """`enqueue` for code that is not async."""
        try:
            if request.is_plain:
                return self._store_plain(request)
            return self._session.run(lambda: self._store(request))
        except BrokerError as error:
            raise _about(error, request) from error.__cause__

    def _store_plain(self, request: Request) -> Stored:
        job = request.job
        try:
            stored = self._session.store(job)
        except NotStored as error:
            first = error.message
            return self._session.run(lambda: self._store_again(request, first))
        return stored or self._session.run(
            lambda: self._store(request), lambda broker, told, wanted: broker.send_job(job, told, wanted)
        )

    async def _store_again(self, request: Request, first: str) -> Stored:
        """Store what was sent and not confirmed: under an id, therefore, that is not fresh any more."""
        job = request.job
        try:
            stored = await self._store(replace(request, job=replace(job, fresh=False)))
        except (Rejected, BrokerUnavailable) as error:  # this try surely failed, but the first may not have
            raise NotStored(f"{first}; then {error.message}") from None
        return replace(stored, disposition="new")

    async def _store(self, request: Request) -> Stored:
        broker = await self._session.broker()
        job = request.job
        if request.throttle is None:
            return await broker.enqueue(job, due=request.due, debounce=request.debounce)
        holder = await broker.throttle(job, request.throttle)
        if holder is not None:
            return Stored(0, holder, "existing")
        try:
            stored = await broker.enqueue(job, due=request.due, debounce=request.debounce)
        except Rejected:
            with suppress(BrokerError):  # the claim is this job's own: a repeat with its id has it
                await broker.unthrottle(job)
            raise
        if stored.id != job.id:  # one of an earlier period still stands, and this period has had none
            await broker.unthrottle(job)
        return stored

    async def enqueue_many(self, requests: Sequence[Request], *, before: int = 0) -> list[Stored]:
        """Store many jobs at once, each at its own due time. `before` is how many the same caller has stored already.

        Raises EnqueueError that names those not, or not surely, stored; the others are. BrokerUnavailable: none is.
        """
        alike: dict[tuple[float | None, Debounce | None], list[int]] = {}
        answers: dict[int, Stored | Exception] = {}
        for place, request in enumerate(requests):
            if request.throttle is None:
                alike.setdefault((request.due, request.debounce), []).append(place)
            else:
                answers[place] = await self._try_one(request)
        # All at once, because each may have a due time of its own: else each would wait for the answer to the last.
        many = await asyncio.gather(
            *(
                self._try_many([requests[place].job for place in places], due, debounce)
                for (due, debounce), places in alike.items()
            )
        )
        for places, stored in zip(alike.values(), many, strict=True):
            answers.update(zip(places, stored, strict=True))
        failed = {requests[place].job.id: answer for place, answer in answers.items() if isinstance(answer, Exception)}
        if failed:
            raise _not_all(failed, stored=len(requests) - len(failed) + before)
        return [answer for _, answer in sorted(answers.items()) if isinstance(answer, Stored)]

    async def _try_one(self, request: Request) -> Stored | Exception:
        try:
            return await self.enqueue(request)
        except BrokerError as error:
            return error

    async def _try_many(
        self, jobs: Sequence[JobRecord], due: float | None, debounce: Debounce | None
    ) -> Sequence[Stored | Exception]:
        try:
            broker = await self._session.broker()
            return await broker.enqueue_many(jobs, due=due, debounce=debounce)
        except BrokerError as error:
            return [_unsent(error)] * len(jobs)

    async def state(self, queue: str, id: str) -> State | None:
        """Where job `id` is in its life; None if nothing is known of it."""
        return await state_of(await self._session.broker(), queue, id)

    async def view(self, queue: str, id: str) -> JobView:
        """Job `id` with all that is known of it. Raises JobNotFound."""
        return await view_job(await self._session.broker(), id, queue=queue)

    async def cancel(self, queue: str, id: str, timeout: float) -> Cancellation:
        """Cancel job `id`, waiting `timeout` seconds for the end of a run. Raises JobNotFound."""
        return await cancel(await self._session.broker(), queue, id, timeout=timeout)

    async def move(self, queue: str, id: str, due: float | None) -> State | None:
        """Give a scheduled job another due time (None: now); its state then, or None if it was not scheduled."""
        return await move_job(await self._session.broker(), queue, id, due)

    async def schedule(self, record: ScheduleRecord, body: bytes, payloads: PayloadCodec | None) -> ScheduleInfo:
        """Store a recurring schedule unless it stands just so. Raises Rejected, NotStored, BadPayload."""
        broker = await self._session.broker()
        await put_schedule(broker, record, body, payloads)
        stored = await find_schedule(broker, record.name, record.queue)
        return await view_schedule(broker, stored, payloads=payloads)

    async def unschedule(self, name: str, queue: str | None) -> bool:
        """Remove the schedule of that name; False if there is none."""
        return await remove_schedule(await self._session.broker(), name, queue)

    async def schedules(self, queue: str | None, payloads: PayloadCodec | None) -> list[ScheduleInfo]:
        """All schedules, by queue and name."""
        broker = await self._session.broker()
        standing = await list_schedules(broker, queue)
        return [await view_schedule(broker, stored, payloads=payloads) for stored in standing]

    async def result(self, queue: str, id: str, timeout: float | None, expires_after: float | None) -> ResultRecord:
        """The result of job `id`, pushed as soon as it is stored.

        `timeout` in seconds, None waits without a bound. `expires_after`: how long this job's result is kept, if known.
        Raises ResultTimeout, ResultExpired, JobNotFound.
        """
        record = await self.end(queue, id, timeout)
        if record is None:
            raise _unknown(queue, id, expires_after)
        return record

    async def end(self, queue: str, id: str, timeout: float | None, *, pushed: bool = True) -> ResultRecord | None:
        """How job `id` ended, as soon as it has. None if it is gone and left nothing.

        `timeout` in seconds, None waits without a bound. pushed: it leaves a result, which comes as soon as it is
        stored; else its queue is looked at, the longer it takes the less often. Raises ResultTimeout.
        """
        broker = await self._session.broker()
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
                record = await self._settled(broker, queue, id)
                if record is not None:
                    return record
                if not pushed:
                    await asyncio.sleep(_OFTENEST_LOOK)  # a copy of the dead letters may be that far behind
                if not pushed or await holder_of(broker, queue, id) is None:
                    return await self._settled(broker, queue, id)  # it may have ended just then
            if timeout is not None and deadline is not None and time.monotonic() >= deadline:
                raise _timed_out(id, "running" if found is None else standing_state(found), timeout)
            waited = time.monotonic() - began
            if waited >= _LOOK_EVERY and not complained:
                complained = await self._complain(broker, queue, id, found, deadline)
            look = _LOOK_EVERY if pushed else min(max(waited / _LOOKS, _OFTENEST_LOOK), _FIRST_LOOK)

    async def _settled(self, broker: Broker, queue: str, id: str) -> ResultRecord | None:
        """How a job ended that is no longer in its queue; None if it left nothing. One that runs may not be in its
        queue either: it was purged."""
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
        return None

    async def _complain(self, broker: Broker, queue: str, id: str, found: Found | None, deadline: float | None) -> bool:
        """Warn if no live worker can take the job that is waited for, as far as they answer. False if that could not
        be asked yet."""
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


def _unknown(queue: str, id: str, expires_after: float | None) -> ResultError:
    """What to raise for a job that neither stands nor runs and left nothing."""
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


def _unsent(error: BrokerError) -> BrokerError:
    """What `error` means to who enqueues: where the broker cannot be used, nothing was sent."""
    if type(error) is not BrokerUnavailable:
        return error
    return NotSent(error.message, hint=error.hint)


def _about(error: BrokerError, request: Request) -> BrokerError:
    """`error` as who enqueued that job is told: with its id, and what to do if nobody knows whether it is stored."""
    job = request.job
    error = NotStored(error.message) if isinstance(error, Closed) else _unsent(error)
    if not isinstance(error, EnqueueError):
        return error
    error.job_ids = (job.id,)
    if isinstance(error, NotStored):
        error.hint = (
            f'it may be stored all the same. To try again, safely: {job.task}.options(id="{job.id}").delay(...)'
        )
        if job.key != NO_KEY or request.due is not None:
            error.hint += ", with the other options as they were"
    return error


def _not_all(failed: Mapping[str, Exception], *, stored: int) -> BrokerError:
    """What to raise when `failed` says why of those that are not stored, by id, and `stored` others are."""
    first = next(iter(failed.values()))
    errors = failed.values()
    if not stored and all(isinstance(error, BrokerUnavailable) for error in errors):
        if isinstance(first, Denied):
            return Denied(first.subject, job_ids=tuple(failed))
        return NotSent(str(first).partition("\n")[0], hint=getattr(first, "hint", None), job_ids=tuple(failed))
    kind: type[EnqueueError] = EnqueueError
    if all(isinstance(error, Rejected | BrokerUnavailable) for error in errors):
        kind = Rejected
    elif any(isinstance(error, NotStored) for error in errors):
        kind = NotStored
    error = kind(
        f"{len(failed)} jobs are not stored, or not surely, and {stored} are: {str(first).partition(chr(10))[0]}",
        hint="error.job_ids names them; enqueueing those again with the same ids is safe",
        job_ids=tuple(failed),
    )
    error.__cause__ = first
    return error
