"""The recurring schedules of a memory broker's queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jetq.encoding.headers import SCHEDULE_HEADER
from jetq.encoding.schedules import encode_record
from jetq.model.job import JobRecord
from jetq.model.schedule import ON_TIME, Mark, ScheduleRecord, StoredSchedule, Ticked, timetable_of

__all__ = ["JobOfTick", "RecurringStore"]

JobOfTick = Callable[[ScheduleRecord, bytes, float], JobRecord]
"""`(schedule, arguments, nominal time in unix seconds) -> job`: makes the job of a tick."""


class _Queue(Protocol):
    """What a `RecurringStore` needs of its queue."""

    def next_sequence(self) -> int: ...

    def add_tick(self, name: str, next_at: float, body: bytes, headers: dict[str, str]) -> int: ...

    def remove(self, sequence: int) -> None: ...

    def remove_ticks(self, name: str) -> None: ...

    def stands(self, job: JobRecord) -> bool: ...

    def add(self, job: JobRecord, due: float | None) -> object: ...


class RecurringStore:
    """The schedules of one queue by name, and their marks.

    now: returns the store's time. at: runs an action at a time. job_of_tick: makes the job of a tick at the tick's
    time, as if a worker did; None leaves ticks to workers.
    """

    def __init__(
        self,
        queue: _Queue,
        now: Callable[[], float],
        at: Callable[[float, Callable[[], None]], None],
        job_of_tick: JobOfTick | None = None,
    ) -> None:
        self._queue = queue
        self._now = now
        self._at = at
        self._job_of_tick = job_of_tick
        self._marks: dict[str, Mark] = {}
        self.schedules: dict[str, StoredSchedule] = {}

    def put(self, record: ScheduleRecord, body: bytes, expected: int) -> bool:
        """See `jetq.broker.schedules.Schedules.put_schedule`."""
        existing = self.schedules.get(record.name)
        if (0 if existing is None else existing.sequence) != expected:
            return False
        stored = StoredSchedule(record, body, self._queue.next_sequence(), self._now())
        self.schedules[record.name] = stored
        if not record.paused:
            self._arm(stored, self._now())
        return True

    def remove(self, stored: StoredSchedule) -> bool:
        """See `jetq.broker.schedules.Schedules.remove_schedule`."""
        name = stored.record.name
        if self.schedules.get(name) != stored:
            return False
        del self.schedules[name]
        self._marks.pop(name, None)
        self._queue.remove_ticks(name)
        return True

    def tick_mark(self, name: str) -> Mark:
        """See `jetq.broker.schedules.Schedules.tick_mark`."""
        return self._marks.get(name, Mark())

    def store_tick(self, name: str, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None) -> bool:
        """See `jetq.broker.schedules.Schedules.store_tick`."""
        if self.tick_mark(name).sequence != expected or (job is not None and self._queue.stands(job)):
            return False
        self._marks[name] = Mark(ticked, self._queue.next_sequence())
        if job is not None:
            self._queue.add(job, due)
        return True

    def _arm(self, stored: StoredSchedule, after: float) -> None:
        due = timetable_of(stored.record).next(after)
        self._at(due, lambda: self._tick(stored, due))

    def _tick(self, stored: StoredSchedule, due: float) -> None:
        if self.schedules.get(stored.record.name) is not stored:
            return
        self._arm(stored, due)
        if self._job_of_tick is not None:
            self._store_job(stored, due, self._job_of_tick(stored.record, stored.body, due))
            return
        next_at = timetable_of(stored.record).next(due)
        headers = {SCHEDULE_HEADER: encode_record(stored.record).decode()}
        tick = self._queue.add_tick(stored.record.name, next_at, stored.body, headers)
        self._at(due + stored.record.tick_ttl, lambda: self._queue.remove(tick))

    def _store_job(self, stored: StoredSchedule, nominal: float, job: JobRecord) -> None:
        """Store the job of a tick, and mark the tick.

        If the jobs may not overlap and an earlier job is stored, only mark the tick.
        """
        mark = self.tick_mark(stored.record.name)
        ticked = mark.ticked.having(nominal, nominal - ON_TIME)
        if not self.store_tick(stored.record.name, ticked, mark.sequence, job, None):
            self.store_tick(stored.record.name, ticked, mark.sequence, None, None)
