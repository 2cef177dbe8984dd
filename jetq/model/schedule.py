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
    """A schedule as it is stored, besides the arguments of its jobs, which are the message's body.

    pattern, zone: as the server reads them. source: defined in code, or made at run time. key, meta,
    level: of each job. expires: seconds after its time at which a job is not run any more. paused: it does not tick.
    """

    name: str
    queue: str
    task: str
    pattern: str
    zone: str | None = None
    overlap: Overlap = "allow"
    catch_up: float = CATCH_UP
    jitter: float = 0.0
    source: Literal["code", "runtime"] = "code"
    key: str = NO_KEY
    expires: float | None = None
    meta: Meta = DEFAULT_META
    paused: bool = False
    level: Level = "normal"

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
