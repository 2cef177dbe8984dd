"""The verbs of a worker on its deliveries in memory: feeds, settlements with their fences, leases, recorded starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jetq.memory.base import Base
from jetq.memory.dead_letters import stored_letter
from jetq.memory.feed import MemoryFeed
from jetq.memory.sizes import check_size
from jetq.model.dead_letter import DeadLetter
from jetq.model.job import Delivery, JobRecord, Level, Terms

__all__ = ["Consuming"]


class Consuming(Base):
    """See `jetq.broker.consuming.Consuming`."""

    @property
    def lease(self) -> float:
        return self.store.lease

    async def levels(self, queue: str) -> bool:
        with self.store.lock:
            return self.queue(queue).levels

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> MemoryFeed:
        self.use()
        feed = MemoryFeed(self.store, queue, deliver, level)
        self.feeds.append(feed)
        return feed

    def finish(self, delivery: Delivery) -> None:
        with self.store.lock:
            self.queue(delivery.queue).remove(delivery.sequence)

    async def confirm(self) -> None:
        pass  # a `finish` is in effect when it returns

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        check_size(job)
        with self.store.lock:
            queue = self.queue(delivery.queue)
            if not queue.is_newest(delivery):
                return False
            queue.add(job, due, alone=True)
            return True

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        with self.store.lock:
            queue = self.queue(delivery.queue)
            if queue.is_newest(delivery):
                queue.add(job, None, alone=True)

    async def put_off(self, delivery: Delivery, after: float) -> None:
        with self.store.lock:
            self.queue(delivery.queue).put_off(delivery.sequence, after)

    async def store_dead(self, delivery: Delivery, letter: DeadLetter) -> None:
        letter = stored_letter(delivery.body, letter)
        with self.store.lock:
            self.queue(delivery.queue).dead.store_dead(delivery, letter)

    async def is_superseded(self, delivery: Delivery) -> bool:
        if not delivery.task:
            return False
        with self.store.lock:
            queue = self.queue(delivery.queue)
            if not queue.is_newest(delivery):
                return True
            if queue.dead.has_buried(delivery):
                return True
            result = self.store.result(delivery.queue, delivery.id)
            return result is not None and result.sequence == delivery.sequence

    async def recorded_starts(self, delivery: Delivery) -> int:
        with self.store.lock:
            self.use()
            sequence, starts = self.store.starts.get((delivery.queue, delivery.id), (0, 0))
            return starts if sequence == delivery.sequence else 0

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        with self.store.lock:
            self.use()
            self.store.starts[delivery.queue, delivery.id] = (delivery.sequence, starts)

    async def erase_starts(self, delivery: Delivery) -> None:
        with self.store.lock:
            self.use()
            self.store.starts.pop((delivery.queue, delivery.id), None)

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        with self.store.lock:
            for delivery in deliveries:
                self.queue(delivery.queue).extend(delivery.sequence)

    async def terms(self, queue: str, level: Level) -> Terms | None:
        return Terms(self.store.lease, "memory")
