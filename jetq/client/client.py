"""Storing jobs, and asking what became of a job, all in plain values. `jetq.client.job` has the handles made of
them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jetq.client.request import Request
from jetq.client.session import Closed, Session
from jetq.errors import (
    BrokerError,
    BrokerUnavailable,
    Denied,
    EnqueueError,
    NotSent,
    NotStored,
    Rejected,
)
from jetq.model.job import Debounce, EnqueueReceipt, JobRecord, State
from jetq.model.names import NO_KEY

if TYPE_CHECKING:
    from jetq.encoding.sealer import Sealer
    from jetq.encoding.sealing import PayloadCodec
    from jetq.model.result import ResultRecord
    from jetq.model.schedule import ScheduleRecord
    from jetq.model.workflows.plan import Plan
    from jetq.operations.cancel import Cancellation
    from jetq.operations.job_view import JobView
    from jetq.operations.schedules import ScheduleInfo
    from jetq.operations.workflows.creating import Created

__all__ = ["Client"]


class Client:
    """Does what producers and callers ask for, on the connection of the running loop.

    Code that works on stored jobs is imported where it is used, because most programs that enqueue never use that code.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    async def enqueue(self, request: Request) -> EnqueueReceipt:
        """Store a job. Raises Rejected (NotSent without a connection) or NotStored, with the job's id."""
        try:
            broker = self.session.connected()
            if broker is None or request.throttle is not None:
                return await self._store(request)
            return await broker.enqueue(request.job, due=request.due, debounce=request.debounce)
        except BrokerError as error:
            raise _about(error, request) from error.__cause__

    def enqueue_and_wait(self, request: Request) -> EnqueueReceipt:
        """Do what `enqueue` does, from code that is not async."""
        try:
            if request.is_plain:
                return self._store_plain(request)
            return self.session.run(lambda: self._store(request))
        except BrokerError as error:
            raise _about(error, request) from error.__cause__

    def _store_plain(self, request: Request) -> EnqueueReceipt:
        job = request.job
        try:
            stored = self.session.store(job)
        except NotStored as error:
            first = error.message
            return self.session.run(lambda: self._store_again(request, first))
        return stored or self.session.run(
            lambda: self._store(request), lambda broker, on_done, wanted: broker.send_job(job, on_done, wanted)
        )

    async def _store_again(self, request: Request, first: str) -> EnqueueReceipt:
        """Store a job that was sent and not confirmed. Its id does not count as fresh any more, because the first try
        may be stored."""
        job = request.job
        try:
            stored = await self._store(replace(request, job=replace(job, fresh=False)))
        except (Rejected, BrokerUnavailable) as error:  # this try surely failed, but the first try may not have
            raise NotStored(f"{first}; then {error.message}") from None
        return replace(stored, disposition="new")

    async def _store(self, request: Request) -> EnqueueReceipt:
        broker = await self.session.broker()
        job = request.job
        if request.throttle is None:
            return await broker.enqueue(job, due=request.due, debounce=request.debounce)
        holder = await broker.throttle(job, request.throttle)
        if holder is not None:
            return EnqueueReceipt(0, holder, "existing")
        try:
            stored = await broker.enqueue(job, due=request.due, debounce=request.debounce)
        except Rejected:
            with suppress(BrokerError):  # the claim is this job's own: a repeat under the job's id has the claim
                await broker.unthrottle(job)
            raise
        if stored.id != job.id:  # a job of an earlier period is still stored, and this period has had none
            await broker.unthrottle(job)
        return stored

    async def create_workflow(
        self,
        sealer: Sealer,
        workflow: str,
        plan: Plan,
        bodies: Mapping[str, Sequence[bytes]],
        *,
        fresh: bool = False,
        anew: bool = False,
    ) -> Created:
        """Store a workflow, and start it; see `jetq.operations.workflows.creating.create`."""
        from jetq.operations.workflows.creating import create

        return await create(await self.session.broker(), sealer, workflow, plan, bodies, fresh=fresh, anew=anew)

    async def enqueue_many(self, requests: Sequence[Request], *, before: int = 0) -> list[EnqueueReceipt]:
        """Store many jobs at once, each at its own due time, and return the answers in order.

        `before`: how many jobs the same caller has stored already. Raises EnqueueError, which names the jobs that are
        not, or not surely, stored; all other jobs are stored. Raises BrokerUnavailable if no job is stored.
        """
        alike: dict[tuple[float | None, Debounce | None], list[int]] = {}
        answers: dict[int, EnqueueReceipt | Exception] = {}
        for index, request in enumerate(requests):
            if request.throttle is None:
                alike.setdefault((request.due, request.debounce), []).append(index)
            else:
                answers[index] = await self._try_one(request)
        # All groups at once, because each job may have a due time of its own: one by one, each would wait for the
        # answer to the group before.
        many = await asyncio.gather(
            *(
                self._try_many([requests[index].job for index in indexes], due, debounce)
                for (due, debounce), indexes in alike.items()
            )
        )
        for indexes, stored in zip(alike.values(), many, strict=True):
            answers.update(zip(indexes, stored, strict=True))
        failed = {requests[index].job.id: answer for index, answer in answers.items() if isinstance(answer, Exception)}
        if failed:
            raise _not_all(failed, stored=len(requests) - len(failed) + before)
        return [answer for _, answer in sorted(answers.items()) if isinstance(answer, EnqueueReceipt)]

    async def _try_one(self, request: Request) -> EnqueueReceipt | Exception:
        try:
            return await self.enqueue(request)
        except BrokerError as error:
            return error

    async def _try_many(
        self, jobs: Sequence[JobRecord], due: float | None, debounce: Debounce | None
    ) -> Sequence[EnqueueReceipt | Exception]:
        try:
            broker = await self.session.broker()
            return await broker.enqueue_many(jobs, due=due, debounce=debounce)
        except BrokerError as error:
            return [_unsent(error)] * len(jobs)

    async def state(self, queue: str, id: str) -> State | None:
        """Return where job `id` is in its life; None if nothing is known of the job."""
        from jetq.operations.job_view import state_of

        return await state_of(await self.session.broker(), queue, id)

    async def view(self, queue: str, id: str) -> JobView:
        """Return all that is known of job `id`. Raises JobNotFound."""
        from jetq.operations.job_view import view_job

        return await view_job(await self.session.broker(), id, queue=queue)

    async def cancel(self, queue: str, id: str, timeout: float) -> Cancellation:
        """Cancel job `id`, wait up to `timeout` seconds for the end of a run, and return what the cancel did. Raises
        JobNotFound."""
        from jetq.operations.cancel import cancel

        return await cancel(await self.session.broker(), queue, id, timeout=timeout)

    async def move(self, queue: str, id: str, due: float | None) -> State | None:
        """Give a scheduled job another due time (unix seconds, None: now). Return the job's state then; None if the job
        was not scheduled."""
        from jetq.operations.reschedule import move_job

        return await move_job(await self.session.broker(), queue, id, due)

    async def schedule(self, record: ScheduleRecord, body: bytes, payloads: PayloadCodec | None) -> ScheduleInfo:
        """Store a recurring schedule unless the same is stored already, and return it as stored. Raises Rejected,
        NotStored, BadPayload."""
        from jetq.operations.schedules import find_schedule, put_schedule, view_schedule

        broker = await self.session.broker()
        await put_schedule(broker, record, body, payloads)
        stored = await find_schedule(broker, record.name, record.queue)
        return await view_schedule(broker, stored, payloads=payloads)

    async def unschedule(self, name: str, queue: str | None) -> bool:
        """Remove the schedule `name`. Return False if there is no such schedule."""
        from jetq.operations.schedules import remove_schedule

        return await remove_schedule(await self.session.broker(), name, queue)

    async def schedules(self, queue: str | None, payloads: PayloadCodec | None) -> list[ScheduleInfo]:
        """Return all schedules by queue and name; only the schedules of `queue` if given."""
        from jetq.operations.schedules import list_schedules, view_schedule

        broker = await self.session.broker()
        existing = await list_schedules(broker, queue)
        return [await view_schedule(broker, stored, payloads=payloads) for stored in existing]

    async def result(self, queue: str, id: str, timeout: float | None, expires_after: float | None) -> ResultRecord:
        """Return the result of job `id`, which is pushed as soon as it is stored.

        `timeout`: seconds; None waits without a bound. `expires_after`: seconds for which this job's result is kept;
        None if unknown. Raises ResultTimeout, ResultExpired, JobNotFound.
        """
        record = await self.end(queue, id, timeout)
        if record is None:
            from jetq.client.waiting import unknown_job

            raise unknown_job(queue, id, expires_after)
        return record

    async def end(self, queue: str, id: str, timeout: float | None, *, pushed: bool = True) -> ResultRecord | None:
        """Return how job `id` ended, as soon as it has. Return None if the job is gone and left nothing.

        `timeout`: seconds; None waits without a bound. `pushed`: the job leaves a result, which arrives as soon as it
        is stored. Without `pushed` the job's queue is looked at, less often the longer the wait lasts. Raises
        ResultTimeout.
        """
        from jetq.client.waiting import wait_for_end

        return await wait_for_end(await self.session.broker(), queue, id, timeout, pushed=pushed)


def _unsent(error: BrokerError) -> BrokerError:
    """Return `error` as a caller that enqueues is told: NotSent if the broker cannot be used, because nothing was sent
    then."""
    if type(error) is not BrokerUnavailable:
        return error
    return NotSent(error.message, hint=error.hint)


def _about(error: BrokerError, request: Request) -> BrokerError:
    """Return `error` as the caller that enqueued the job is told: with the job's id, and with what to do if nobody
    knows whether the job is stored."""
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
    """Return the error for a call that stored `stored` jobs, but not all. `failed` says why the other jobs are not
    stored, by id."""
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
