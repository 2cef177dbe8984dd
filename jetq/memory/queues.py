"""Verbs on the queues of memory brokers and their jobs: look at, move, remove, purge, pause."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from jetq.encoding.headers import moved_headers
from jetq.memory.base import Base
from jetq.memory.sizes import MAX_PAYLOAD
from jetq.memory.store import QueueStore, found
from jetq.model.deployment_facts import ConsumerFacts, ServerFacts, StreamFacts, Survey
from jetq.model.job import StoredJob
from jetq.model.oversized import KEPT
from jetq.model.queue_info import QueueInfo

__all__ = ["Queues"]


class Queues(Base):
    """See `jetq.broker.queues.Queues`."""

    async def find(self, queue: str, id: str) -> StoredJob | None:
        with self.store.lock:
            self.use()
            message = self.store.queue(queue).newest(id) if queue in self.store.queues else None
            return None if message is None else found(message)

    async def stored_jobs(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[StoredJob]:
        with self.store.lock:
            self.use()
            if queue not in self.store.queues:
                return []
            messages = [each for each in self.store.queue(queue).messages.values() if not each.schedule]
            return [found(each) for each in messages if task in (None, each.task) and key in (None, each.key)][:limit]

    async def overdue(self, queue: str, after: int) -> tuple[Sequence[StoredJob], int]:
        return (), 0

    @property
    def fire_window(self) -> float:
        return 0.0

    async def move(self, found: StoredJob, due: float) -> bool:
        return self._put_again(found, due)

    async def release(self, found: StoredJob) -> bool:
        return self._put_again(found, None)

    def _put_again(self, found: StoredJob, due: float | None) -> bool:
        with self.store.lock:
            queue = self.queue(found.delivery.queue)
            message = queue.messages.get(found.delivery.sequence)
            if message is None or not queue.is_movable(message):
                return False
            headers = message.headers
            if due is not None and message.due is not None:
                headers = moved_headers(headers, message.due, due)
            queue.put_again(message, due, headers=headers)
            return True

    async def remove(self, queue: str, sequence: int) -> bool:
        with self.store.lock:
            messages = self.queue(queue)
            stood = sequence in messages.messages
            messages.remove(sequence)
            return stood

    async def purge(self, queue: str) -> int:
        with self.store.lock:
            messages = list(self.queue(queue).messages.values())
            for message in messages:
                self.queue(queue).remove(message.sequence)
            return sum(each.held_until is None for each in messages)

    async def pause(self, queue: str, until: float | None = None) -> None:
        with self.store.lock:
            self.queue(queue).pause(math.inf if until is None else until)

    async def resume(self, queue: str) -> None:
        with self.store.lock:
            self.queue(queue).pause(None)

    async def remove_queue(self, queue: str) -> bool:
        store = self.store
        with store.lock:
            self.use()
            gone = store.queues.get(queue)
            if gone is None:
                return True
            if gone.messages or len(gone.dead):
                return False
            for stored in list(gone.recurring.schedules.values()):
                gone.recurring.remove(stored)
            del store.queues[queue]
            if gone.takers:  # the feeds that still take from the queue make it anew
                store.queue(queue).takers = gone.takers
            self._forget(queue)
            return True

    def _forget(self, queue: str) -> None:
        """Remove the cells, starts, throttles and cancel marks of the jobs of `queue`."""
        store = self.store
        store.throttled = {where: held for where, held in store.throttled.items() if where[0] != queue}
        store.starts = {where: starts for where, starts in store.starts.items() if where[0] != queue}
        store.cancelled.pop(queue, None)
        for name in [each for each in store.cells if each.split(".")[:2] in (["off", queue], [KEPT, queue])]:
            del store.cells[name]

    async def queues(self) -> Sequence[QueueInfo]:
        with self.store.lock:
            self.use()
            return [_info(queue) for _, queue in sorted(self.store.queues.items())]

    async def survey(self, tasks: Mapping[str, str | None]) -> Survey:
        infos = await self.queues()
        return Survey(
            ServerFacts("memory", "", MAX_PAYLOAD, True, True, True, False, False, 0.0, 0.0),
            streams=tuple(StreamFacts(info.name, info.name, "jobs", storage="memory") for info in infos),
            consumers=tuple(
                ConsumerFacts(i.name, i.name, i.name, ready=i.ready, running=i.running, waiting=i.waiting)
                for i in infos
            ),
        )


def _info(queue: QueueStore) -> QueueInfo:
    """Return the numbers of `queue`: its jobs of each state, dead letters and waiting feeds, and its pause."""
    messages = queue.messages.values()
    scheduled = sum(each.due is not None for each in messages)
    running = sum(each.held_until is not None for each in messages)
    return QueueInfo(
        name=queue.name,
        ready=len(messages) - scheduled - running,
        running=running,
        scheduled=scheduled,
        dead=len(queue.dead),
        waiting=sum(taker.wants > 0 for taker in queue.takers),
        paused_until=queue.paused_until,
    )
