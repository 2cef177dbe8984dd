"""Verbs that look at what is stored in the queues, remove from it, and pause queues."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jetq.broker.numbers import FIRE_WINDOW
from jetq.encoding.headers import moved_headers
from jetq.jetstream.broker.base import (
    Base,
    due_of,
    expecting,
    is_overdue,
    own_headers,
    schedule_headers,
)
from jetq.jetstream.streams.api import StoredMessage
from jetq.jetstream.streams.publisher import WrongSequence
from jetq.jetstream.streams.subjects import job_tokens, level_of
from jetq.model.job import LEVELS, Delivery, Level, StoredJob
from jetq.model.queue_info import QueueInfo

__all__ = ["Queues", "job_streams"]

_FOREVER = datetime(2200, 1, 1, tzinfo=UTC)
"""The end of a pause without an end: the server knows no pause without one."""

_OVERDUE_LOOKS = 500
"""The number of schedules looked at in one go. This takes 0.2 s of one connection's time."""

_IN_A_MOMENT = timedelta(milliseconds=50)


class Queues(Base):
    """See `jetq.broker.queues.Queues`; other parts of that role are in `queue_removal` and `survey`."""

    async def find(self, queue: str, id: str) -> StoredJob | None:
        message = await self.api.last_message(self.subjects.jobs(queue), self.subjects.by_id(queue, id))
        if message is None:
            return None
        if _is_scheduled(message):
            return _found(message, queue, 0)
        return _found(message, queue, await self.handed_out(queue, level_of(message.subject)))

    async def stored_jobs(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[StoredJob]:
        stream, where = self.subjects.jobs(queue), self.subjects.jobs_of(queue, task, key)
        handed_out: dict[Level, int] = {}
        found: list[StoredJob] = []
        most = math.inf if limit is None else limit
        if key:
            messages = await self.few_messages(stream, where, limit=most)
        else:
            messages = [message async for message in self.messages(stream, where, limit=most)]
        for message in messages:
            level = level_of(message.subject)
            if level not in handed_out and not _is_scheduled(message):
                handed_out[level] = await self.handed_out(queue, level)
            found.append(_found(message, queue, handed_out.get(level, 0)))
        return found

    async def overdue(self, queue: str, after: int) -> tuple[Sequence[StoredJob], int]:
        # A schedule that fires while the store is full does not fire again before the schedule is stored anew or the
        # server is restarted (nats-server 2.15.1, seen by tests/integration/schedules/test_overdue.py).
        stream, where = self.subjects.jobs(queue), self.subjects.scheduled(queue)
        info = await self.api.stream_info(stream)
        if info is None:
            return (), 0
        now = datetime.fromisoformat(info["ts"]).timestamp()  # the server's: a fast clock here must start nothing early
        found: list[StoredJob] = []
        looks = 0
        async for message in self.messages(stream, where, after=after, limit=_OVERDUE_LOOKS):
            looks, after = looks + 1, message.sequence
            if is_overdue(due_of(message.headers), now):
                found.append(_found(message, queue, 0))
        return found, after if looks == _OVERDUE_LOOKS else 0

    @property
    def fire_window(self) -> float:
        return FIRE_WINDOW

    async def move(self, found: StoredJob, due: float) -> bool:
        if found.due is None or not self.is_far(found.due):
            return False
        job = found.delivery
        target = job.headers["Nats-Schedule-Target"]
        where = self.fence_subject(job)
        headers = {
            **moved_headers(own_headers(job.headers), found.due, due),
            **schedule_headers(due, target),
            **expecting(job.sequence, where),
        }
        return await self._publish_if_expected(job.address, job.body, headers)

    async def release(self, found: StoredJob) -> bool:
        if not (self.is_far(found.due) or is_overdue(found.due, self.now())):
            return False
        job = found.delivery
        headers = {
            **own_headers(job.headers),
            "Nats-Schedule-Next": "purge",
            "Nats-Scheduler": job.address,
            **expecting(job.sequence, job.address),
        }
        target = job.headers["Nats-Schedule-Target"]
        return await self._publish_if_expected(target, job.body, headers)

    async def remove(self, queue: str, sequence: int) -> bool:
        return await self.api.delete(self.subjects.jobs(queue), sequence)

    async def purge(self, queue: str) -> int:
        # Purge whole subjects, never a part of them. If a message is purged while it is handed out, other messages of
        # the same consumer must not be left behind that are never redelivered (nats-server 2.15.1,
        # tests/integration/server/test_server_facts.py).
        stream = self.subjects.jobs(queue)
        running = next((info.running for info in await self.queues() if info.name == queue), 0)
        removed = 0
        for subject in self.subjects.waiting_subjects(queue):
            removed += await self.api.purge(stream, subject)
        return max(0, removed - running)

    async def pause(self, queue: str, until: float | None = None) -> None:
        await self.ensure(queue)
        for consumer in await self._consumers(queue):
            await self._pause(queue, consumer, _FOREVER if until is None else datetime.fromtimestamp(until, UTC))

    async def resume(self, queue: str) -> None:
        # Set the end of the pause to a moment from now, by the server's own clock. The server hands out jobs at once
        # when a pause ends. When a pause is taken back, the server does so only when it next looks at the requests that
        # wait, up to 5 s later (nats-server 2.15.1).
        await self.ensure(queue)
        left = 0.0
        for consumer in await self._consumers(queue):
            info = await self.api.consumer_info(self.subjects.jobs(queue), consumer)
            if info is not None and info.get("paused"):
                end = datetime.fromisoformat(info["ts"]) + _IN_A_MOMENT
                left = max(left, await self._pause(queue, consumer, end))
        await asyncio.sleep(left)

    async def _consumers(self, queue: str) -> list[str]:
        """Return the names of the queue's consumers that exist."""
        levels: Sequence[Level] = LEVELS if await self.has_levels(queue) else ("normal",)
        return [self.subjects.consumer(queue, level) for level in levels]

    async def _pause(self, queue: str, consumer: str, until: datetime) -> float:
        """Pause a consumer until `until`; return the seconds until the pause ends, by the server's account."""
        end = until.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        answer = await self.api.request(f"CONSUMER.PAUSE.{self.subjects.jobs(queue)}.{consumer}", {"pause_until": end})
        return int(answer.get("pause_remaining", 0)) / 1e9

    async def queues(self) -> Sequence[QueueInfo]:
        found = [await self._queue_info(queue, info) for queue, info in (await job_streams(self)).items()]
        return sorted(found, key=lambda info: info.name)

    async def _queue_info(self, queue: str, stream: Mapping[str, Any]) -> QueueInfo:
        state = stream["state"]
        levels: Sequence[Level] = LEVELS if int(state["consumer_count"]) > 1 else ("normal",)
        consumers = [
            info
            for level in levels
            if (info := await self.api.consumer_info(self.subjects.jobs(queue), self.subjects.consumer(queue, level)))
            is not None
        ]
        dead = await self.api.stream_info(self.subjects.dead_letters(queue))
        recurring = sum(
            [
                await self._count(self.subjects.jobs(queue), subject)
                for subject in self.subjects.recurring_subjects(queue)
            ]
        )
        ready = sum(int(each["num_pending"]) for each in consumers)
        running = sum(int(each["num_ack_pending"]) for each in consumers)
        return QueueInfo(
            name=queue,
            ready=ready,
            running=running,
            scheduled=max(0, int(state["messages"]) - ready - running - recurring) if consumers else 0,
            dead=int(dead["state"]["messages"]) if dead else 0,
            waiting=sum(int(each["num_waiting"]) for each in consumers),
            paused_until=next(map(_paused_until, consumers), None),
        )

    async def _count(self, stream: str, subject: str) -> int:
        """Return how many messages are stored on `subject`, which must be few."""
        return sum((await self.subject_counts(stream, subject)).values())

    async def _publish_if_expected(self, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            await self.publisher.publish(subject, body, headers)
        except WrongSequence:
            return False
        return True


async def job_streams(base: Base) -> Mapping[str, Mapping[str, Any]]:
    """Return, by queue, what the server says of the stream of each queue's jobs."""
    streams: list[dict[str, Any]] = []
    while True:
        page = await base.api.request(
            "STREAM.LIST", {"subject": f"{base.subjects.namespace}.*.run.>", "offset": len(streams)}
        )
        streams += page.get("streams") or []
        if len(streams) >= int(page.get("total", 0)):
            break
    by_queue = {"".join(str(info["config"]["subjects"][0]).split(".")[1:2]): info for info in streams}
    return {queue: info for queue, info in by_queue.items() if info["config"]["name"] == base.subjects.jobs(queue)}


def _is_scheduled(message: StoredMessage) -> bool:
    """Return whether the message is a job that is not due yet, which no consumer hands out."""
    kind, *_ = job_tokens(message.subject, message.sequence)
    return kind == "later"


def _found(message: StoredMessage, queue: str, handed_out: int) -> StoredJob:
    """Return the job of a message. handed_out: the sequence up to which its consumer has handed out messages; that of a
    scheduled job does not matter."""
    kind, task, key, id = job_tokens(message.subject, message.sequence)
    delivery = Delivery(
        queue=queue,
        task=task,
        key=key,
        id=id,
        body=message.data,
        headers=message.headers,
        sequence=message.sequence,
        count=0,
        stored_at=message.stored_at,
        since=0.0,
        token="",
        address=message.subject,
        level=level_of(message.headers.get("Nats-Schedule-Target", "") if kind == "later" else message.subject),
    )
    if kind == "later":
        return StoredJob(delivery, "scheduled", due=due_of(message.headers))
    return StoredJob(delivery, "queued", in_flight=message.sequence <= handed_out)


def _paused_until(consumer: Mapping[str, object]) -> float | None:
    """Return until when a consumer is paused, in unix seconds; None if it is not paused."""
    if not consumer.get("paused"):
        return None
    config = consumer["config"]
    assert isinstance(config, dict)
    until = datetime.fromisoformat(str(config["pause_until"]))
    return math.inf if until >= _FOREVER else until.timestamp()
