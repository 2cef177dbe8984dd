"""Recurring schedules in the stream of their queue: the server ticks, and marks say which ticks became jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from jetq.encoding.headers import SCHEDULE_HEADER, NewerHeader, job_headers, newer_version
from jetq.encoding.schedules import encode_record, read_record
from jetq.errors import Denied, NotStored
from jetq.jetstream.broker.base import EXPECTED, EXPECTED_ON, WRITE_WITHIN, Base, schedule_headers
from jetq.jetstream.streams.api import NOT_FOUND, ApiError, StoredMessage
from jetq.jetstream.streams.batches import BatchMessage
from jetq.jetstream.streams.publisher import WrongSequence
from jetq.jetstream.streams.subjects import task_token
from jetq.jetstream.transport.connection import NoReply, NoResponders
from jetq.model.bounds import check_numbers
from jetq.model.job import JobRecord
from jetq.model.schedule import Mark, ScheduleRecord, StoredSchedule, Ticked

__all__ = ["Schedules"]

_ROLLUP = {"Nats-Rollup": "sub"}

_encode = msgspec.json.Encoder().encode
_decode_ticked = msgspec.json.Decoder(Ticked).decode


class Schedules(Base):
    """See `jetq.broker.schedules.Schedules`."""

    async def put_schedule(self, record: ScheduleRecord, body: bytes, expected: int) -> bool:
        await self.ensure(record.queue)
        headers = {SCHEDULE_HEADER: encode_record(record).decode(), EXPECTED: str(expected), **_ROLLUP}
        if not record.paused:  # a message that is no schedule stops the schedule stored before it (nats-server 2.15.1)
            headers["Nats-Schedule"] = record.pattern
            headers["Nats-Schedule-Target"] = self.subjects.tick(record.queue, record.name)
            headers["Nats-Schedule-TTL"] = f"{math.ceil(record.tick_ttl)}s"
            if record.zone is not None:
                headers["Nats-Schedule-Time-Zone"] = record.zone
        try:
            await self.publisher.publish(self.subjects.cron(record.queue, record.name), body, headers)
        except WrongSequence:
            return False
        return True

    async def wake_schedule(self, stored: StoredSchedule) -> bool:
        record = stored.record
        tick = self.subjects.tick(record.queue, record.name)
        if await self.api.last_message(self.subjects.jobs(record.queue), tick) is not None:
            return False
        return await self.put_schedule(record, stored.body, stored.sequence)

    async def get_schedule(self, queue: str, name: str) -> StoredSchedule | None:
        message = await self.api.last_message(self.subjects.jobs(queue), self.subjects.cron(queue, name))
        try:
            return None if message is None else _stored(message, queue)
        except NewerHeader as error:
            raise newer_version(error) from None

    async def schedules(self, queue: str) -> Sequence[StoredSchedule]:
        stream = self.subjects.jobs(queue)
        found: list[StoredSchedule] = []
        try:
            subjects = await self.subject_counts(stream, self.subjects.crons(queue))
        except ApiError as error:
            if error.err_code in NOT_FOUND:
                return []
            raise
        for subject in subjects:
            message = await self.api.replicas_last(stream, subject)
            with suppress(NewerHeader):
                if message is not None and (stored := _stored(message, queue)) is not None:
                    found.append(stored)
        return sorted(found, key=lambda stored: stored.record.name)

    async def remove_schedule(self, stored: StoredSchedule) -> bool:
        record = stored.record
        stream = self.subjects.jobs(record.queue)
        if not await self.api.delete(stream, stored.sequence):
            return False
        await self.api.purge(stream, self.subjects.last(record.queue, record.name))
        while tick := await self.api.next_message(stream, self.subjects.tick(record.queue, record.name), 1):
            await self.api.delete(stream, tick.sequence)  # by sequence, because the tick may be handed out
        return True

    async def tick_mark(self, queue: str, name: str) -> Mark:
        message = await self.api.last_message(self.subjects.jobs(queue), self.subjects.last(queue, name))
        if message is None:
            return Mark()
        try:
            ticked = _decode_ticked(message.data)
            check_numbers(ticked, times=("newest",))
        except (ValueError, RecursionError):  # not jetq's: the next mark takes its place
            return Mark(sequence=message.sequence)
        return Mark(ticked, message.sequence)

    async def store_tick(
        self, record: ScheduleRecord, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None
    ) -> bool:
        if job is not None:
            await self.take_room(job)
        mark = self.subjects.last(record.queue, record.name)
        headers = {EXPECTED: str(expected), **_ROLLUP}
        try:
            if job is None:
                await self.publisher.publish(mark, _encode(ticked), headers, timeout=WRITE_WITHIN)
            else:
                await self._store_both(mark, _encode(ticked), headers, job, due)
        except WrongSequence:
            return False
        return True

    async def _store_both(
        self, mark: str, data: bytes, headers: dict[str, str], job: JobRecord, due: float | None
    ) -> None:
        """Store the mark and the job, or neither of them, as one atomic batch.

        The mark may not be stored without the job, nor the job twice.
        """
        subject = self.subjects.run(job.queue, job.task, job.key, job.id, job.level)
        own = {
            **job_headers(job),
            EXPECTED: "0",
            EXPECTED_ON: self.subjects.anywhere(job.queue, job.task, job.key, job.id),
        }
        if due is not None:
            own.update(schedule_headers(due, subject))
            subject = self.subjects.later(job.queue, job.task, job.key, job.id)
        both = (BatchMessage(mark, data, headers), BatchMessage(subject, job.body, own))
        try:
            await self.batches.store(both, f"the tick of {job.task}", timeout=self.api.timeout)
        except (NoReply, NoResponders, Denied) as error:  # a tick that is denied now is tried again, and no dead letter
            raise NotStored(f"no confirmation for the tick of {job.task}: {error}") from None


def _stored(message: StoredMessage, queue: str) -> StoredSchedule | None:
    try:
        record = read_record(message.headers.get(SCHEDULE_HEADER, ""))
    except NewerHeader:
        raise
    except ValueError:
        return None  # not jetq's
    if record.queue != queue or task_token(record.name) != message.subject.rpartition(".")[2]:
        return None  # otherwise a user who may write here could make jobs in other queues
    return StoredSchedule(record, message.data, message.sequence, message.stored_at)
