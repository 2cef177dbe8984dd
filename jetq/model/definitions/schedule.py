"""Recurring schedules as users write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict

from msgspec import Struct, field

from jetq.errors import DefinitionError
from jetq.model.definitions.checks import check_duration
from jetq.model.definitions.timetable import Timetable, parse_cron, parse_every
from jetq.model.job import DEFAULT_META, Level, Meta
from jetq.model.names import NO_KEY, check_schedule
from jetq.model.redaction import RedactedRepr
from jetq.model.schedule import CATCH_UP, Overlap, ScheduleRecord

__all__ = ["Schedule", "ScheduleKeywords"]


class Schedule(RedactedRepr, Struct, frozen=True, kw_only=True):
    """When a task runs again and again, and with which arguments: for `@task(schedules=[...])`.

    A schedule needs `cron` or `every`, and not both. Raises DefinitionError for values that cannot be.
    """

    cron: str | None = None
    """Five fields (minute hour day month weekday), six with seconds in front, or `@hourly`, `@daily`, `@weekly`,
    `@monthly`, `@yearly`."""

    every: float | timedelta | None = None
    """Whole seconds from one tick to the next, from 1, or a timedelta."""

    tz: str | None = None
    """The time zone of `cron`, an IANA name; UTC without."""

    name: str | None = None
    """Needed where a task has several schedules; with it the schedule is `TASK.NAME`, without it `TASK`."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of each job, by parameter name."""

    overlap: Overlap = "allow"
    """`skip` makes no job while the one before is scheduled, queued or running."""

    catch_up: float | timedelta = CATCH_UP
    """After a downtime the newest tick that was missed runs once if it is not older than so many seconds; 0 never runs
    it."""

    jitter: float | timedelta = 0.0
    """Each job is due at random within so many seconds after its time."""

    def __post_init__(self) -> None:
        self.timetable()
        if self.name is not None:
            check_schedule(self.name)
        if self.overlap not in ("allow", "skip"):
            raise DefinitionError(f"overlap is 'allow' or 'skip', not {self.overlap!r}")
        check_duration("catch_up", self.catch_up)
        check_duration("jitter", self.jitter)

    def timetable(self) -> Timetable:
        """Return the timetable of this schedule. Raises DefinitionError if its `cron`, `every` or `tz` cannot be."""
        if (self.cron is None) == (self.every is None):
            raise DefinitionError(
                "a schedule needs cron or every, and not both", hint='cron="0 9 * * MON-FRI", or every=30'
            )
        if self.cron is not None:
            return parse_cron(self.cron, self.tz)
        if self.tz is not None:
            raise DefinitionError("tz goes with cron: every counts seconds, which are the same everywhere")
        assert self.every is not None
        return parse_every(check_duration("every", self.every))

    def record(
        self,
        name: str,
        *,
        queue: str,
        task: str,
        source: Literal["code", "runtime"],
        key: str = NO_KEY,
        expires: float | None = None,
        meta: Meta = DEFAULT_META,
        level: Level = "normal",
    ) -> ScheduleRecord:
        """Return the record of this schedule, as it is stored under `name`."""
        timetable = self.timetable()
        return ScheduleRecord(
            name=check_schedule(name),
            queue=queue,
            task=task,
            pattern=timetable.pattern,
            zone=timetable.zone,
            overlap=self.overlap,
            catch_up=check_duration("catch_up", self.catch_up),
            jitter=check_duration("jitter", self.jitter),
            source=source,
            key=key,
            expires=expires,
            meta=meta,
            level=level,
        )


class ScheduleKeywords(TypedDict, total=False):
    """The keywords of `app.schedule`: the fields of `Schedule` except name and arguments, which the call has."""

    cron: str
    every: float | timedelta
    tz: str
    overlap: Overlap
    catch_up: float | timedelta
    jitter: float | timedelta
