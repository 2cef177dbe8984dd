"""What stands in the queues: looking at it, removing from it, and pausing it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from jetq.jetstream.api import StoredMessage
from jetq.jetstream.ground import FIRING, Ground, due_of
from jetq.jetstream.subjects import job_tokens
from jetq.model import Delivery, Found, QueueInfo

__all__ = ["Standing"]

_FOREVER = datetime(2200, 1, 1, tzinfo=UTC)
"""A pause without an end ends then: the server knows no other."""


class Standing(Ground):
    """The part of the broker that looks at queues and mends them. See `jetq.broker.Broker`."""

    async def find(self, queue: str, id: str) -> Found | None:
        message = await self._api.last_message(self._names.jobs(queue), self._names.by_id(queue, id))
        if message is None:
            return None
        return _found(message, queue, await self._handed_out(queue))

    async def standing(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[Found]:
        stream, where = self._names.jobs(queue), self._names.jobs_of(queue, task, key)
        handed_out = await self._handed_out(queue)
        found: list[Found] = []
        sequence = 1
        while limit is None or len(found) < limit:
            message = await self._api.next_message(stream, where, sequence)
            if message is None:
                break
            found.append(_found(message, queue, handed_out))
            sequence = message.sequence + 1
        return found

    async def _handed_out(self, queue: str) -> int:
        consumer = await self._api.consumer_info(self._names.jobs(queue), queue)
        return int(consumer["delivered"]["stream_seq"]) if consumer else 0

    @property
    def firing(self) -> float:
        return FIRING

    async def remove(self, queue: str, sequence: int) -> bool:
        return await self._api.delete(self._names.jobs(queue), sequence)

    async def purge(self, queue: str) -> int:
        # Whole subjects, never a part of them: what is purged while it is handed out must not leave others of the same
        # consumer behind, never to be redelivered (nats-server 2.15.1, tests/integration/test_server_facts.py).
        stream = self._names.jobs(queue)
        running = next((info.running for info in await self.queues() if info.name == queue), 0)
        removed = 0
        for subject in self._names.waiting_subjects(queue):
            removed += await self._api.purge(stream, subject)
        return max(0, removed - running)

    async def pause(self, queue: str, until: float | None = None) -> None:
        await self._ensure(queue)
        end = _FOREVER if until is None else datetime.fromtimestamp(until, UTC)
        await self._pause(queue, end.isoformat(timespec="microseconds").replace("+00:00", "Z"))

    async def resume(self, queue: str) -> None:
        await self._ensure(queue)
        await self._pause(queue, "0001-01-01T00:00:00Z")

    async def _pause(self, queue: str, until: str) -> None:
        await self._api.request(f"CONSUMER.PAUSE.{self._names.jobs(queue)}.{queue}", {"pause_until": until})

    async def queues(self) -> Sequence[QueueInfo]:
        names = self._names
        streams: list[dict[str, object]] = []
        while True:
            page = await self._api.request(
                "STREAM.LIST", {"subject": f"{names.namespace}.*.run.>", "offset": len(streams)}
            )
            streams += page.get("streams") or []
            if len(streams) >= int(page.get("total", 0)):
                break
        found = []
        for info in streams:
            config = info["config"]
            assert isinstance(config, dict)
            queue = str(config["subjects"][0]).split(".")[1]
            if config["name"] == names.jobs(queue):
                found.append(await self._queue_info(queue, info))
        return sorted(found, key=lambda info: info.name)

    async def _queue_info(self, queue: str, stream: Mapping[str, object]) -> QueueInfo:
        names = self._names
        consumer = await self._api.consumer_info(names.jobs(queue), queue)
        dead = await self._api.stream_info(names.dead_letters(queue))
        state = stream["state"]
        assert isinstance(state, dict)
        recurring = sum([await self._count(names.jobs(queue), subject) for subject in names.recurring_subjects(queue)])
        ready = int(consumer["num_pending"]) if consumer else 0
        running = int(consumer["num_ack_pending"]) if consumer else 0
        return QueueInfo(
            name=queue,
            ready=ready,
            running=running,
            scheduled=max(0, int(state["messages"]) - ready - running - recurring) if consumer else 0,
            dead=int(dead["state"]["messages"]) if dead else 0,
            waiting=int(consumer["num_waiting"]) if consumer else 0,
            paused_until=_paused_until(consumer or {}),
        )

    async def _count(self, stream: str, subject: str) -> int:
        """How many messages stand on `subject`; meant for where they are few."""
        info = await self._api.request(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
        return sum((info["state"].get("subjects") or {}).values())


def _found(message: StoredMessage, queue: str, handed_out: int) -> Found:
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
    )
    if kind == "later":
        return Found(delivery, "scheduled", due=due_of(message.headers))
    return Found(delivery, "queued", in_flight=message.sequence <= handed_out)


def _paused_until(consumer: Mapping[str, object]) -> float | None:
    """Until when a consumer is paused, by its own account of the time left."""
    if not consumer.get("paused"):
        return None
    config = consumer["config"]
    assert isinstance(config, dict)
    until = datetime.fromisoformat(str(config["pause_until"]))
    return math.inf if until >= _FOREVER else until.timestamp()
