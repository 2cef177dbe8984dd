"""The role of the port that keeps recurring schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jetq.model.job import JobRecord
from jetq.model.schedule import Mark, ScheduleRecord, StoredSchedule, Ticked

__all__ = ["Schedules"]


class Schedules(Protocol):
    """Recurring schedules, and the marks that say which of their ticks became jobs. For errors see `jetq.broker`."""

    async def put_schedule(self, record: ScheduleRecord, body: bytes, expected: int) -> bool:
        """Store a schedule, which ticks from then on unless it is paused. Creates the queue on first use.

        Returns False, and nothing is changed, if the schedule stored under that name does not have the sequence
        `expected`; 0 means that no schedule is stored. Raises Rejected if the broker cannot read the schedule's pattern
        or time zone.
        """
        ...

    async def wake_schedule(self, stored: StoredSchedule) -> bool:
        """Set up a schedule anew that ceased to tick.

        Returns False if a tick of the schedule waits, or the schedule was changed or removed.
        """
        ...

    async def get_schedule(self, queue: str, name: str) -> StoredSchedule | None:
        """Return the schedule called `name`; None if there is none. Raises NewerVersion."""
        ...

    async def schedules(self, queue: str) -> Sequence[StoredSchedule]:
        """Return all schedules of `queue` that can be read, by name."""
        ...

    async def remove_schedule(self, stored: StoredSchedule) -> bool:
        """Remove a schedule with its mark and the ticks that wait.

        Returns False if the schedule was written anew or removed since `stored` was read.
        """
        ...

    async def tick_mark(self, queue: str, name: str) -> Mark:
        """Return the mark that says which ticks of the schedule became jobs."""
        ...

    async def store_tick(
        self, record: ScheduleRecord, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None
    ) -> bool:
        """Store which ticks became jobs and, if a tick became one, the job for `due` (unix seconds) or at once: both or
        neither.

        What is stored takes the place of the mark with the sequence `expected`. Returns False, and nothing is changed,
        if the stored mark is another one, or if a job of that id or unique key is stored.
        """
        ...
