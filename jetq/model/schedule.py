"""Recurring schedules as they are stored, and which of their ticks became jobs."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from jetq.model.definitions.timetable import Timetable, parse_cron, parse_every
from jetq.model.extended import Versioned
from jetq.model.job import DEFAULT_META, Level, Meta
from jetq.model.names import NO_KEY, key_token
from jetq.model.redaction import Discreet

__all__ = [
    "CATCH_UP",
    "ON_TIME",
    "Mark",
    "Overlap",
    "ScheduleRecord",
    "StoredSchedule",
    "Ticked",
    "job_key",
    "timetable_of",
]

Overlap = Literal["allow", "skip"]

ON_TIME = 60.0
"""Seconds for which a tick counts as on time. One that is later runs only if no newer one is due, as a catch-up."""

CATCH_UP = 3600.0
"""Seconds after its time for which a missed tick is caught up, where a schedule says nothing else."""


class ScheduleRecord(Versioned, frozen=True, omit_defaults=True):
    """A schedule as it is stored, besides the arguments of its jobs, which are the message's body."""

    name: str
    """The name of the schedule."""

    queue: str
    """The queue of its jobs."""

    task: str
    """The task of its jobs."""

    pattern: str
    """When the schedule ticks, as the server reads it."""

    zone: str | None = None
    """The time zone of the pattern, as the server reads it; None for UTC."""

    overlap: Overlap = "allow"
    """`skip` makes no job while the one before is not done."""

    catch_up: float = CATCH_UP
    """Seconds after its time for which a missed tick still becomes a job; 0 for never."""

    jitter: float = 0.0
    """Each job is due at random within so many seconds after its time."""

    source: Literal["code", "runtime"] = "code"
    """`code`: a task's definition says it; `runtime`: it was made at run time."""

    key: str = NO_KEY
    """The unique key of each job; `NO_KEY` for none."""

    expires: float | None = None
    """Seconds after its time at which a job is not run any more; None for no bound."""

    meta: Meta = DEFAULT_META
    """The meta of each job."""

    paused: bool = False
    """Whether the schedule does not tick at present."""

    level: Level = "normal"
    """The priority of each job."""

    @property
    def tick_ttl(self) -> float:
        """Seconds for which a tick may still become a job, and a while for the worker that has it. What is older is
        removed, so that they do not pile up while there is no worker."""
        return max(ON_TIME, self.catch_up) + 2 * ON_TIME


class StoredSchedule(Discreet, Struct, frozen=True):
    """A schedule as it stands. `sequence` changes when it is written; stored_at: unix seconds of that."""

    record: ScheduleRecord
    body: bytes
    sequence: int
    stored_at: float


class Ticked(Struct, frozen=True, omit_defaults=True):
    """Which ticks of a schedule became jobs, or were decided to become none: the newest, and those of the last minutes.

    newest: unix seconds of its nominal time, 0 for none. recent: how many seconds before it others were.
    """

    newest: float = 0.0
    recent: tuple[float, ...] = ()

    def has(self, nominal: float) -> bool:
        """Whether the tick of that time was decided."""
        return nominal == self.newest or round(self.newest - nominal, 3) in self.recent

    def having(self, nominal: float, oldest: float) -> Ticked:
        """With that one, and without those before `oldest`."""
        if self.newest == 0.0:
            return Ticked(nominal)
        times = {nominal, self.newest, *(self.newest - each for each in self.recent)}
        newest = max(times)
        kept = sorted(round(newest - each, 3) for each in times if oldest <= each < newest)
        return Ticked(newest, tuple(kept))


class Mark(Struct, frozen=True):
    """`Ticked` as it stands; sequence 0 where nothing does."""

    ticked: Ticked = Ticked()
    sequence: int = 0


def job_key(record: ScheduleRecord) -> str:
    """The unique key of a schedule's jobs: their own, or the schedule's where they may not overlap."""
    if record.key == NO_KEY and record.overlap == "skip":
        return key_token(f"schedule:{record.name}")
    return record.key


def timetable_of(record: ScheduleRecord) -> Timetable:
    """When a stored schedule ticks. Raises DefinitionError for a pattern this jetq cannot read."""
    if record.pattern.startswith("@every "):
        return parse_every(float(record.pattern.removeprefix("@every ").removesuffix("s")))
    return parse_cron(record.pattern, record.zone)
