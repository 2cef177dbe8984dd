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
        """Store a schedule, which ticks from then on unless it is paused.

        False, and nothing is changed, if what is stored under its name has not the sequence `expected`; 0 means that
        nothing is stored. Raises Rejected if the broker cannot read its pattern or zone. Creates the queue on first
        use.
        """
        ...

    async def wake_schedule(self, stored: StoredSchedule) -> bool:
        """Set up a schedule anew that ceased to tick. False if a tick of it waits, or it was changed or removed."""
        ...

    async def get_schedule(self, queue: str, name: str) -> StoredSchedule | None:
        """Return the schedule of that name, or None. Raises NewerVersion."""
        ...

    async def schedules(self, queue: str) -> Sequence[StoredSchedule]:
        """Return all schedules of `queue` that can be read, by name."""
        ...

    async def remove_schedule(self, stored: StoredSchedule) -> bool:
        """Remove a schedule with its mark and the ticks that wait. False if it was written anew or removed since."""
        ...

    async def ticked(self, queue: str, name: str) -> Mark:
        """Return the mark that says which of its ticks became jobs."""
        ...

    async def store_tick(
        self, record: ScheduleRecord, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None
    ) -> bool:
        """Store which ticks became jobs in the place of the mark `expected`, and the job that one became, if any, for
        `due` (unix seconds) or at once: both or neither.

        False, and nothing is changed, if the mark is another one, or a job of that id or unique key is stored.
        """
        ...
