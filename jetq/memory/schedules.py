"""Recurring schedules of memory brokers."""

from __future__ import annotations

from collections.abc import Sequence

from jetq.memory.base import Base
from jetq.model.job import JobRecord
from jetq.model.schedule import Mark, ScheduleRecord, StoredSchedule, Ticked

__all__ = ["Schedules"]


class Schedules(Base):
    """See `jetq.broker.schedules.Schedules`."""

    async def put_schedule(self, record: ScheduleRecord, body: bytes, expected: int) -> bool:
        with self.store.lock:
            return self.queue(record.queue).recurring.put(record, body, expected)

    async def wake_schedule(self, stored: StoredSchedule) -> bool:
        return False

    async def get_schedule(self, queue: str, name: str) -> StoredSchedule | None:
        return next((stored for stored in await self.schedules(queue) if stored.record.name == name), None)

    async def schedules(self, queue: str) -> Sequence[StoredSchedule]:
        with self.store.lock:
            self.use()
            if queue not in self.store.queues:
                return []
            return [stored for _, stored in sorted(self.store.queue(queue).recurring.schedules.items())]

    async def remove_schedule(self, stored: StoredSchedule) -> bool:
        with self.store.lock:
            return self.queue(stored.record.queue).recurring.remove(stored)

    async def tick_mark(self, queue: str, name: str) -> Mark:
        with self.store.lock:
            return self.queue(queue).recurring.tick_mark(name)

    async def store_tick(
        self, record: ScheduleRecord, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None
    ) -> bool:
        with self.store.lock:
            return self.queue(record.queue).recurring.store_tick(record.name, ticked, expected, job, due)
