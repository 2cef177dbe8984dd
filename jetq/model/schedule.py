"""Stored recurring schedules, and the marks that tell which of their ticks became jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from jetq.model.definitions.timetable import Timetable, parse_cron, parse_every
from jetq.model.extended import Versioned
from jetq.model.job import DEFAULT_META, Level, Meta
from jetq.model.names import NO_KEY, key_token
from jetq.model.redaction import RedactedRepr

__all__ = [
    "CATCH_UP",
    "ON_TIME",
    "Mark",
    "Overlap",
    "ScheduleRecord",
    "StoredSchedule",
    "Ticked",
    "job_key",
    "time_token",
    "timetable_of",
]

Overlap = Literal["allow", "skip"]

ON_TIME = 60.0
"""Seconds for which a tick is on time. A later tick becomes a job only as a catch-up, if no newer tick is due."""

CATCH_UP = 3600.0
"""Seconds after its time for which a missed tick still becomes a job, unless the schedule says otherwise."""


class ScheduleRecord(Versioned, frozen=True, omit_defaults=True):
    """A schedule as it is stored, without the arguments of its jobs, which are the body of the message."""

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
    """`skip` makes no job while the job before is not done."""

    catch_up: float = CATCH_UP
    """Seconds after its time for which a missed tick still becomes a job; 0 for never."""

    jitter: float = 0.0
    """The most seconds after its time at which a job is due; jetq chooses at random."""

    source: Literal["code", "runtime"] = "code"
    """Where the schedule comes from. `code`: the definition of a task; `runtime`: it was made at run time."""

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
        """Seconds for which a tick is stored: while it may become a job, and some more for the worker that holds it.

        Older ticks are removed, so that ticks do not pile up while there is no worker.
        """
        return max(ON_TIME, self.catch_up) + 2 * ON_TIME


class StoredSchedule(RedactedRepr, Struct, frozen=True):
    """A schedule as it is stored.

    body: the arguments of its jobs. sequence: changes with each writing of the schedule. stored_at: when the schedule
    was written, in unix seconds.
    """

    record: ScheduleRecord
    body: bytes
    sequence: int
    stored_at: float


class Ticked(Struct, frozen=True, omit_defaults=True):
    """The ticks of a schedule that are decided: each became a job, or it was decided that it becomes none.

    newest: the nominal time of the newest decided tick, in unix seconds; 0 if there is none. recent: other decided
    ticks of the last minutes, each as its seconds before `newest`.
    """

    newest: float = 0.0
    recent: tuple[float, ...] = ()

    def has(self, nominal: float) -> bool:
        """Return whether the tick of the nominal time `nominal` is decided."""
        return nominal == self.newest or round(self.newest - nominal, 3) in self.recent

    def having(self, nominal: float, oldest: float) -> Ticked:
        """Return these ticks with the tick of the time `nominal`, and without the ticks before the time `oldest`."""
        if self.newest == 0.0:
            return Ticked(nominal)
        times = {nominal, self.newest, *(self.newest - each for each in self.recent)}
        newest = max(times)
        kept = sorted(round(newest - each, 3) for each in times if oldest <= each < newest)
        return Ticked(newest, tuple(kept))


class Mark(Struct, frozen=True):
    """The stored mark of a schedule. sequence: 0 if no mark is stored."""

    ticked: Ticked = Ticked()
    sequence: int = 0


def time_token(nominal: float) -> str:
    """Return a nominal time, in unix seconds, as a part of an id: `20300101T020000`, with milliseconds if there are
    any."""
    whole = datetime.fromtimestamp(nominal, UTC)
    return f"{whole:%Y%m%dT%H%M%S}" + (f"-{whole.microsecond // 1000:03}" if whole.microsecond else "")


def job_key(record: ScheduleRecord) -> str:
    """Return the unique key of a schedule's jobs: their own key, or a key of the schedule if the jobs may not overlap.

    `NO_KEY` if the jobs have no key and may overlap.
    """
    if record.key == NO_KEY and record.overlap == "skip":
        return key_token(f"schedule:{record.name}")
    return record.key


def timetable_of(record: ScheduleRecord) -> Timetable:
    """Return the timetable of a stored schedule. Raises DefinitionError for a pattern that this jetq cannot read."""
    if record.pattern.startswith("@every "):
        return parse_every(float(record.pattern.removeprefix("@every ").removesuffix("s")))
    return parse_cron(record.pattern, record.zone)
