"""Storing, listing, pausing, running and removing recurring schedules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq.encoding.sealing import PayloadCodec, PayloadContext, key_of, opened, sealed
from jetq.encoding.workflows import read_recurring
from jetq.errors import BadPayload, NewerVersion, NotStored, ScheduleNotFound
from jetq.model.job import JobRecord
from jetq.model.names import NO_KEY, check_queue, check_schedule, keyed_id, new_job_id
from jetq.model.redaction import RedactedRepr
from jetq.model.schedule import ScheduleRecord, StoredSchedule, job_key, timetable_of
from jetq.operations.workflows.creating import START

if TYPE_CHECKING:
    from jetq.broker.clock import Clock
    from jetq.broker.enqueueing import Enqueueing
    from jetq.broker.queues import Queues
    from jetq.broker.schedules import Schedules

    class _Looking(Schedules, Queues, Protocol):
        """The part of the broker that is needed to look through queues for schedules."""

    class _Running(Schedules, Queues, Enqueueing, Clock, Protocol):
        """The part of the broker that is needed to run a schedule's job now."""

    class _Viewing(Schedules, Clock, Protocol):
        """The part of the broker that is needed to tell a schedule's next times."""


__all__ = [
    "ScheduleInfo",
    "find_schedule",
    "gone",
    "list_schedules",
    "pause_schedule",
    "put_schedule",
    "remove_schedule",
    "run_schedule",
    "view_schedule",
]

_TRIES = 20


class ScheduleInfo(RedactedRepr, Struct, frozen=True):
    """A recurring schedule as it is stored."""

    name: str
    """The name of the schedule."""

    queue: str
    """The queue of its jobs."""

    task: str
    """The task of its jobs."""

    arguments: Any
    """The arguments of its jobs, as JSON has them; None if they cannot be read here, because they are sealed, and if
    the jobs start workflows."""

    cron: str | None
    """When it ticks, as the broker reads it, with seconds; None where `every` says it."""

    every: float | None
    """Seconds from one tick to the next; None where `cron` says it."""

    tz: str | None
    """The time zone of `cron`; None for UTC."""

    overlap: str
    """`skip` makes no job while the one before is not done; `allow` does."""

    catch_up: float
    """Seconds after its time for which a missed tick still becomes a job."""

    jitter: float
    """Each job is due at random within so many seconds after its time."""

    source: str
    """`code` if a task's definition says the schedule, `runtime` if `app.schedule` or the command line did."""

    paused: bool
    """Whether the schedule does not tick at present."""

    next: tuple[datetime, ...]
    """Its next times, aware UTC; none while it is paused."""

    last: datetime | None
    """The time of the newest tick of which a job was made, aware UTC; None if there is none."""

    steps: tuple[str, ...] | None = None
    """The names of the steps if its jobs start workflows; None if not, and if they cannot be read here."""


async def put_schedule(
    broker: Schedules, record: ScheduleRecord, body: bytes, payloads: PayloadCodec | None = None
) -> bool:
    """Store a schedule unless the same is stored already, and return whether it was written. A paused schedule stays
    paused.

    `body`: the arguments as JSON, which are stored sealed by `payloads`. A schedule is written only if changed, because
    `@every` counts from the time of writing. Raises BadPayload, NewerVersion, Rejected, NotStored, BrokerUnavailable.
    """
    made = sealed(payloads, body, _arguments_of(record))
    for _ in range(_TRIES):
        existing = await broker.get_schedule(record.queue, record.name)
        expected = 0
        if existing is not None:
            expected = existing.sequence
            record = _continued(record, existing.record)
            if existing.record == record and _same_schedule(existing, body, made, payloads):
                return False
        if await broker.put_schedule(record, made, expected):
            return True
    raise NotStored(f"schedule {record.name} of queue {record.queue} is not stored: others write it all the time")


def _continued(record: ScheduleRecord, existing: ScheduleRecord) -> ScheduleRecord:
    """Return the record that takes the place of `existing`: paused if `existing` is, and with the fields that only a
    newer jetq knows."""
    meta = replace(record.meta, others=existing.meta.others)
    return replace(record, paused=existing.paused, others=existing.others, meta=meta)


async def find_schedule(broker: _Looking, name: str, queue: str | None = None) -> StoredSchedule:
    """Return the schedule `name`, looked for in every queue unless `queue` is given. Raises ScheduleNotFound."""
    check_schedule(name)
    for each in await _queues(broker, queue):
        if (stored := await broker.get_schedule(each, name)) is not None:
            return stored
    raise ScheduleNotFound(
        f"there is no schedule {name} in {'any queue' if queue is None else f'queue {queue}'}", hint="jetq schedule ls"
    )


async def list_schedules(broker: _Looking, queue: str | None = None) -> list[StoredSchedule]:
    """Return all schedules by queue and name; only the schedules of `queue` if given."""
    return [stored for each in await _queues(broker, queue) for stored in await broker.schedules(each)]


async def remove_schedule(broker: _Looking, name: str, queue: str | None = None) -> bool:
    """Remove the schedule `name`; jobs made of it stay. Return False if there is no such schedule."""
    for _ in range(_TRIES):
        try:
            stored = await find_schedule(broker, name, queue)
        except ScheduleNotFound:
            return False
        if await broker.remove_schedule(stored):
            return True
    raise NotStored(f"schedule {name} is not removed: others write it all the time")


async def pause_schedule(broker: _Looking, name: str, queue: str | None = None, *, paused: bool) -> bool:
    """Stop the ticks of a schedule, or let them go on. Return False if that was done already. Raises
    ScheduleNotFound."""
    for _ in range(_TRIES):
        stored = await find_schedule(broker, name, queue)
        if stored.record.paused == paused:
            return False
        if await broker.put_schedule(replace(stored.record, paused=paused), stored.body, stored.sequence):
            return True
    raise NotStored(f"schedule {name} is not changed: others write it all the time")


async def run_schedule(broker: _Running, name: str, queue: str | None = None) -> str:
    """Make a job of a schedule now, besides its ticks, and return the job's id. Raises ScheduleNotFound."""
    stored = await find_schedule(broker, name, queue)
    record, now = stored.record, broker.now()
    meta = replace(record.meta, schedule=record.name)
    if record.expires is not None:
        meta = replace(meta, expires=now + record.expires)
    key = job_key(record)
    id = new_job_id() if key == NO_KEY else keyed_id(new_job_id(), key)
    job = JobRecord(
        id=id, task=record.task, queue=record.queue, body=stored.body, key=key, meta=meta, level=record.level
    )
    return (await broker.enqueue(job)).id


async def view_schedule(
    broker: _Viewing, stored: StoredSchedule, upcoming: int = 1, payloads: PayloadCodec | None = None
) -> ScheduleInfo:
    """Return a schedule with its next `upcoming` times and its last time."""
    record = stored.record
    mark = await broker.tick_mark(record.queue, record.name)
    every = record.pattern.startswith("@every ")
    timetable = timetable_of(record)
    after = max(broker.now(), mark.ticked.newest) if not every else _last_beat(stored, mark.ticked.newest, broker.now())
    times = [] if record.paused else timetable.upcoming(after, upcoming)
    return ScheduleInfo(
        name=record.name,
        queue=record.queue,
        task=record.task,
        arguments=None if record.task == START else _arguments(stored, payloads),
        cron=None if every else record.pattern,
        every=float(record.pattern[7:-1]) if every else None,
        tz=record.zone,
        overlap=record.overlap,
        catch_up=record.catch_up,
        jitter=record.jitter,
        source=record.source,
        paused=record.paused,
        next=tuple(_utc(each) for each in times),
        last=_utc(mark.ticked.newest) if mark.ticked.newest else None,
        steps=_steps(stored, payloads) if record.task == START else None,
    )


def _last_beat(stored: StoredSchedule, newest: float, now: float) -> float:
    """Return when a schedule of seconds ticked last, as far as is known: its times go on from the last tick."""
    interval = float(stored.record.pattern[7:-1])
    start = max(newest, stored.stored_at)
    return start + max(0.0, (now - start) // interval) * interval


async def _queues(broker: Queues, queue: str | None) -> Sequence[str]:
    return [check_queue(queue)] if queue is not None else [info.name for info in await broker.queues()]


def _same_schedule(existing: StoredSchedule, body: bytes, made: bytes, payloads: PayloadCodec | None) -> bool:
    """Return whether the stored schedule `existing` holds `body`, sealed by the same key as `made`. The bytes differ
    with each sealing."""
    if existing.body == made:
        return True
    try:
        same = opened(payloads, existing.body, _arguments_of(existing.record)) == body
    except BadPayload:
        return False
    return same and key_of(existing.body) == key_of(made)


def _arguments(stored: StoredSchedule, payloads: PayloadCodec | None) -> Mapping[str, Any] | None:
    try:
        body = opened(payloads, stored.body, _arguments_of(stored.record))
        arguments: Mapping[str, Any] = msgspec.json.decode(body)
    except (ValueError, RecursionError, BadPayload):
        return None
    return arguments


def _steps(stored: StoredSchedule, payloads: PayloadCodec | None) -> tuple[str, ...] | None:
    try:
        body = opened(payloads, stored.body, _arguments_of(stored.record))
        return tuple(read_recurring(body, stored.record.name).steps)
    except (ValueError, BadPayload, NewerVersion):
        return None


def _arguments_of(record: ScheduleRecord) -> PayloadContext:
    return PayloadContext("arguments", record.task, queue=record.queue)


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


async def gone(
    broker: Schedules, queue: str, defined: Collection[str], tasks: Collection[str] | None = None
) -> list[StoredSchedule]:
    """Return the schedules of `queue` that code defined and that `defined` does not have; only those of `tasks` if
    given."""
    return [
        stored
        for stored in await broker.schedules(queue)
        if stored.record.source == "code"
        and stored.record.name not in defined
        and (tasks is None or stored.record.task in tasks)
    ]
