"""Storing jobs: at once or for later, one by one or many, and one job for each unique key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from jetq.broker.enqueueing import DirectConnection
from jetq.broker.numbers import ASKED_WITHIN, DEDUP_WINDOW, HEADROOM
from jetq.broker.wanted import always
from jetq.encoding.headers import META_HEADER, job_headers, meta_or_default, meta_to_rewrite
from jetq.encoding.worker_status import encode, read_answers
from jetq.errors import BrokerError, BrokerUnavailable, NotStored
from jetq.jetstream.broker.base import (
    EXPECTED,
    EXPECTED_ON,
    MSG_ID,
    TTL,
    Base,
    due_of,
    expecting,
    own_headers,
    schedule_headers,
)
from jetq.jetstream.broker.fleet import ask_workers
from jetq.jetstream.streams.api import StoredMessage
from jetq.jetstream.streams.direct_connection import SocketConnection
from jetq.jetstream.streams.publisher import Answer, CallbackAnswer, PubAck, WrongSequence
from jetq.jetstream.streams.subjects import job_tokens, level_of
from jetq.jetstream.transport.nats_client import header_block
from jetq.model.debouncing import debounced
from jetq.model.deployment_facts import Drift
from jetq.model.job import DEFAULT_META, Debounce, EnqueueReceipt, JobRecord
from jetq.model.names import NO_KEY
from jetq.model.worker_status import StatusQuery

__all__ = ["Enqueueing"]

_UnderWay = asyncio.Future[PubAck] | EnqueueReceipt | Exception
"""A future for an answer that is to come, or the answer itself."""

_LOOKS = 20


class Enqueueing(Base):
    """See `jetq.broker.enqueueing.Enqueueing`."""

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        self.known_queues.pop(queue, None)
        self.has_shared = False
        known = await self.ensure(queue)
        drift = await self.topology.levels(queue) if levels or await self.has_levels(queue) else ()
        return (*known.drift, *drift, *await self.topology.shared())

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> EnqueueReceipt:
        if not _must_be_alone(job):
            if due is None and timeout is None:
                answer: asyncio.Future[PubAck] = asyncio.get_running_loop().create_future()
                if self._send(job, answer):
                    return (await answer).receipt_of(job)
            return (await (await self._begin(job, due, timeout))).receipt_of(job)
        if (earlier := await self._earlier(job)) is not None:
            return earlier
        return await self._alone(job, due, timeout, debounce, await self._begin(job, due, timeout))

    def send_job(
        self,
        job: JobRecord,
        on_done: Callable[[EnqueueReceipt | BrokerError], None],
        wanted: Callable[[], bool] = always,
    ) -> bool:
        return self._send(job, CallbackAnswer(on_done, lambda ack: ack.receipt_of(job), wanted))

    async def open_direct(self) -> DirectConnection | None:
        if (client := self.connection.client) is not None and not client.can_hand_over:
            return None
        client = await self.connection.another(f"{self.connection.name}-direct")
        sock, inbox = client.hand_over(), self.connection.new_inbox()
        try:
            return SocketConnection(sock, inbox, self.unbounded, self._message, self.connection.domain)
        except OSError as error:
            sock.close()
            raise BrokerUnavailable(f"the connection broke off: {error.strerror or error}") from None

    async def enqueue_many(
        self,
        jobs: Sequence[JobRecord],
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Sequence[EnqueueReceipt | Exception]:
        under_way: list[_UnderWay] = []
        try:
            earlier = await self._earlier_of(jobs)
            for job in jobs:  # all are written first and awaited afterwards, so that no job needs a task
                try:
                    under_way.append(earlier.get((job.queue, job.id)) or await self._begin(job, due, timeout))
                except (BrokerError, ValueError) as error:
                    under_way.append(error)
            return [
                await self._answer(job, due, timeout, debounce, each) for job, each in zip(jobs, under_way, strict=True)
            ]
        except BaseException:  # nobody waits for the other jobs any more, so they are not sent again either
            for each in under_way:
                if isinstance(each, asyncio.Future):
                    each.cancel()
            raise

    async def _answer(
        self,
        job: JobRecord,
        due: float | None,
        timeout: float | None,
        debounce: Debounce | None,
        under_way: _UnderWay,
    ) -> EnqueueReceipt | Exception:
        if not isinstance(under_way, asyncio.Future):
            return under_way
        try:
            if _must_be_alone(job):
                return await self._alone(job, due, timeout, debounce, under_way)
            return (await under_way).receipt_of(job)
        except Exception as error:  # the error is the answer to this job; the other jobs have their own answers
            return error

    async def _begin(
        self, job: JobRecord, due: float | None, timeout: float | None, *, after: int = 0, known: bool = False
    ) -> asyncio.Future[PubAck]:
        """Send `job` and return a future of the answer.

        If the job must be the only one of its id or key, `after` is the sequence of the newest such message that is
        allowed. known: the server knows the id, and is not to take this job for the one that it knows.
        """
        if job.queue not in self.known_queues:
            await self.ensure(job.queue)
        if job.level != "normal":
            await self.ensure_levels(job.queue)
        subject, headers = self._message(job)
        if self.rooms:
            await self.take_room(job)
        if known:
            del headers[MSG_ID]
        if _must_be_alone(job):
            headers[EXPECTED] = str(after)
            headers[EXPECTED_ON] = self.subjects.anywhere(job.queue, job.task, job.key, job.id)
        if due is not None:
            headers.update(schedule_headers(due, subject))
            subject = self.subjects.later(job.queue, job.task, job.key, job.id)
        return await self.publisher.begin(subject, job.body, headers, timeout=timeout, job=job)

    def _send(self, job: JobRecord, answer: Answer) -> bool:
        """Send a job that is due and has no key. Return False, and send nothing, if something must be waited for."""
        if not job.fresh or job.queue not in self.known_queues or job.level != "normal" or not self.connection.free:
            return False
        if self.rooms and (room := self.rooms.get(job.queue)) is not None and not room.has(job):
            return False
        try:
            subject, headers = self._message(job)
            self.publisher.send(subject, job.body, header_block(headers), answer, job=job)
        except BrokerError:
            return False
        return True

    def _message(self, job: JobRecord) -> tuple[str, dict[str, str]]:
        """Return the subject and the headers of a job that is due, from any thread. Raises PayloadTooLarge."""
        if len(job.body) > self.connection.max_payload - HEADROOM:
            raise self.too_large(job)
        if job.meta is DEFAULT_META:
            headers = {MSG_ID: job.id}
        else:
            headers = {MSG_ID: job.id, **job_headers(job)}
        return self.subjects.run(job.queue, job.task, job.key, job.id, job.level), headers

    # --- ids and keys that other jobs may have

    async def _earlier_of(self, jobs: Sequence[JobRecord]) -> Mapping[tuple[str, str], EnqueueReceipt | Exception]:
        """Return, by queue and id, what `_earlier` gives for each of `jobs`, or the error if that is not known.

        Jobs for which `_earlier` gives None are left out.
        """
        sought = [job for job in jobs if not job.fresh] if self._may_have_forgotten else []
        found = await asyncio.gather(*(self._earlier(job) for job in sought), return_exceptions=True)
        known: dict[tuple[str, str], EnqueueReceipt | Exception] = {}
        for job, each in zip(sought, found, strict=True):
            if isinstance(each, EnqueueReceipt | BrokerError):
                known[job.queue, job.id] = each
            elif isinstance(each, BaseException):
                raise each
        return known

    async def _earlier(self, job: JobRecord) -> EnqueueReceipt | None:
        """Return what an enqueue of the same id left in the last two minutes, if the server may have forgotten the
        id."""
        if job.fresh or job.again or not self._may_have_forgotten:
            return None
        ack = await self.trace(job, DEDUP_WINDOW)
        return None if ack is None else ack.receipt_of(job)

    @property
    def _may_have_forgotten(self) -> bool:
        """Whether the server may have been started after the oldest id was stored that it should know."""
        return self.connection.up_for < DEDUP_WINDOW

    async def _alone(
        self,
        job: JobRecord,
        due: float | None,
        timeout: float | None,
        debounce: Debounce | None,
        under_way: asyncio.Future[PubAck],
    ) -> EnqueueReceipt:
        """Return the answer for a job that must be the only one of its id or key: the new job, or the stored one."""
        try:
            ack = await under_way
            if ack.duplicate and job.again:  # of a job that may be over
                ack = await (await self._begin(job, due, timeout, known=True))
            return ack.receipt_of(job)
        except WrongSequence:
            if job.fresh and job.key == NO_KEY:  # a member of a workflow that stands, and must not follow its own end
                return EnqueueReceipt(0, job.id, "existing")
        try:
            return await self._beside(job, due, timeout, debounce)
        except BrokerUnavailable as error:  # this job may be the stored one, if an unconfirmed try stored it
            raise NotStored(f"what stands of job {job.id} is not known: {error.message}") from None

    async def _beside(
        self, job: JobRecord, due: float | None, timeout: float | None, debounce: Debounce | None
    ) -> EnqueueReceipt:
        """Return the answer for a job that was refused because a job of its id or key is stored already."""
        where = self.subjects.anywhere(job.queue, job.task, job.key, job.id)
        for _ in range(_LOOKS):
            after = 0
            existing = await self.api.last_message(self.subjects.jobs(job.queue), where)
            if existing is not None and job.meta.unique == "running":
                after = existing.sequence  # if another job is stored meanwhile, this one is refused
                existing = await self._that_waits(job, where)
            if existing is not None:
                id = _id_of(existing)
                if id == job.id or debounce is None or not self.is_far(due_of(existing.headers)):
                    return EnqueueReceipt(existing.sequence, id, "new" if id == job.id and job.fresh else "existing")
                alone = where if job.meta.unique is None else self.subjects.of_job(job.queue, job.task, job.key, id)
                try:
                    return EnqueueReceipt(
                        await self._replace_scheduled(existing, alone, job, due, debounce), id, "replaced"
                    )
                except WrongSequence:
                    after = 0
            try:  # the stored job ended just now, or does not count
                return (await (await self._begin(job, due, timeout, after=after))).receipt_of(job)
            except WrongSequence:
                continue
        raise NotStored(f"job {job.id} of {job.task} is not stored: jobs of its id or key come and go too fast")

    async def _that_waits(self, job: JobRecord, where: str) -> StoredMessage | None:
        """Return a stored job of the key that surely has not started, or `job` itself; None if all may have started."""
        for message in await self.few_messages(self.subjects.jobs(job.queue), where):
            # A job that is unique until it is done allows no other job of its key beside it.
            if meta_or_default(message.headers).unique is None or _id_of(message) == job.id:
                return message
            if due_of(message.headers) is not None:
                return message
            if message.sequence > await self.handed_out(job.queue, level_of(message.subject)):
                return message
            # If no worker answers, the job counts as started: one run too many is better than a change that no job
            # sees.
            question = encode(StatusQuery(id=_id_of(message), only_holder=True))
            for answer in read_answers(await ask_workers(self, job.queue, question, ASKED_WITHIN, 1)):
                if answer.held is not None and answer.held.started is None:
                    return message
        return None

    async def _replace_scheduled(
        self, existing: StoredMessage, where: str, job: JobRecord, due: float | None, debounce: Debounce
    ) -> int:
        """Replace the arguments and the due time of the schedule `existing` by those of `job`; return the new sequence.

        The id stays that of `existing`.
        """
        before = meta_to_rewrite(existing.headers)
        took, when = debounced(job, due, debounce, before=before, stored_at=existing.stored_at, now=self.now())
        own = {name: value for name, value in own_headers(existing.headers).items() if name != META_HEADER}
        target = existing.headers["Nats-Schedule-Target"]
        headers = {**own, **job_headers(took), **schedule_headers(when, target), **expecting(existing.sequence, where)}
        ack = await self.publisher.publish(existing.subject, job.body, headers)
        return ack.seq

    async def throttle(self, job: JobRecord, period: float) -> str | None:
        await self.ensure_shared()
        subject = self.subjects.throttle(job.queue, job.task, job.key)
        headers = {EXPECTED: "0", TTL: f"{max(1, round(period))}s"}
        for _ in range(_LOOKS):
            try:
                await self.publisher.publish(subject, job.id.encode(), headers)
                return None
            except WrongSequence:
                holder = await self.api.last_message(self.subjects.state, subject)
            if holder is not None:  # otherwise its period ended just now
                held_by = holder.data.decode("utf-8", "replace")
                return None if held_by == job.id else held_by
        raise NotStored(f"job {job.id} of {job.task} is not stored: who has the period of its key changes too fast")

    async def unthrottle(self, job: JobRecord) -> None:
        # By sequence, and only the job's own claim: its period may have ended meanwhile, and another job may hold the
        # next period.
        claim = await self.api.last_message(self.subjects.state, self.subjects.throttle(job.queue, job.task, job.key))
        if claim is not None and claim.data == job.id.encode():
            await self.api.delete(self.subjects.state, claim.sequence)


def _must_be_alone(job: JobRecord) -> bool:
    """Return whether no job of the same id or key may stand beside `job`. The id of a member is not made for one
    enqueue: several may store the member, and one of them so late that the server has forgotten the id."""
    return job.key != NO_KEY or not job.fresh or job.meta.flow is not None


def _id_of(message: StoredMessage) -> str:
    return job_tokens(message.subject, message.sequence)[3]
