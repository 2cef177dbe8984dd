"""Recurring schedules as values: what a user writes, what is stored, and which ticks became jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict

import msgspec
from msgspec import Struct, field

from jetq.bounds import check_numbers
from jetq.checks import check_duration
from jetq.errors import DefinitionError
from jetq.extended import Versioned, encode_extended
from jetq.model import DEFAULT_META, Level, Meta
from jetq.names import NO_KEY, check_queue, check_schedule, check_task, key_token
from jetq.secret import Discreet
from jetq.timetable import Timetable, parse_cron, parse_every
from jetq.wire import SCHEDULE_HEADER, WIRE_VERSION, NewerHeader, check_meta, read_extended

__all__ = [
    "ON_TIME",
    "Mark",
    "Overlap",
    "Schedule",
    "ScheduleKeywords",
    "ScheduleRecord",
    "StoredSchedule",
    "Ticked",
    "encode_record",
    "job_key",
    "read_record",
    "timetable_of",
]

Overlap = Literal["allow", "skip"]

ON_TIME = 60.0
"""Seconds for which a tick counts as on time. One that is later runs only if no newer one is due, as a catch-up."""

_CATCH_UP = 3600.0
_HASHED = re.compile(r"=[0-9a-f]{32}")


class Schedule(Discreet, Struct, frozen=True, kw_only=True):
    """When a task runs again and again, and with which arguments: for `@task(schedules=[...])`.

    cron: five fields (minute hour day month weekday), six with seconds in front, or `@hourly`, `@daily`, `@weekly`,
    `@monthly`, `@yearly`; in the time zone `tz`, an IANA name, UTC without. Or every: whole seconds, from 1, or a
    timedelta. name: needed where a task has several; with it a schedule is `TASK.NAME`. arguments: of each job, by
    parameter name.
    overlap: "skip" makes no job while the one before is scheduled, queued or running. catch_up: after a downtime the
    newest tick that was missed runs once if it is not older than so many seconds; 0 never. jitter: each job is due at
    random within so many seconds after its time.

    Raises DefinitionError for what cannot be.
    """

    cron: str | None = None
    every: float | timedelta | None = None
    tz: str | None = None
    name: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    overlap: Overlap = "allow"
    catch_up: float | timedelta = _CATCH_UP
    jitter: float | timedelta = 0.0

    def __post_init__(self) -> None:
        self.timetable()
        if self.name is not None:
            check_schedule(self.name)
        if self.overlap not in ("allow", "skip"):
            raise DefinitionError(f"overlap is 'allow' or 'skip', not {self.overlap!r}")
        check_duration("catch_up", self.catch_up)
        check_duration("jitter", self.jitter)

    def timetable(self) -> Timetable:
        """When it ticks. Raises DefinitionError."""
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
        """This schedule as it is stored under `name`."""
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
    """The keywords of `app.schedule`: those of Schedule but for the name and the arguments, which the call has."""

    cron: str
    every: float | timedelta
    tz: str
    overlap: Overlap
    catch_up: float | timedelta
    jitter: float | timedelta


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
    catch_up: float = _CATCH_UP
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


encode_record = encode_extended
_decode_record = msgspec.json.Decoder(ScheduleRecord).decode


def read_record(text: str) -> ScheduleRecord:
    """The record in a header's text. Raises ValueError, NewerHeader for one of a newer version."""
    record = read_extended(SCHEDULE_HEADER, text, _decode_record)
    if record.meta.v > WIRE_VERSION:
        raise NewerHeader(SCHEDULE_HEADER, record.meta.v)
    _check(record)
    return record


def _check(record: ScheduleRecord) -> None:
    """Raises ValueError for what would make a subject or a time that cannot be."""
    try:
        for check, name in ((check_schedule, record.name), (check_queue, record.queue), (check_task, record.task)):
            check(name)
        timetable_of(record)
    except (DefinitionError, OverflowError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    if record.key not in (NO_KEY, key_token(record.key)) and not _HASHED.fullmatch(record.key):
        raise ValueError("its key is none")
    check_numbers(record, spans=("catch_up", "jitter", "expires"))
    check_meta(record.meta)


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
