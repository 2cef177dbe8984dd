"""Ticks of recurring schedules become jobs: each nominal time once, however often its tick is delivered."""

from __future__ import annotations

import hashlib
import logging
import random
from datetime import UTC, datetime

from msgspec.structs import replace

from jetq.broker import Broker
from jetq.errors import DefinitionError, NotStored
from jetq.model import Delivery, JobRecord
from jetq.names import NO_KEY, keyed_id
from jetq.schedule import ON_TIME, Mark, ScheduleRecord, StoredSchedule, Ticked, job_key, read_record, timetable_of
from jetq.wire import SCHEDULE_HEADER

__all__ = ["BadTick", "Ticks", "job_of_tick"]

_log = logging.getLogger("jetq.worker")

_SURE = 10.0
"""Seconds after its time at which a tick that has come to nobody's hands counts as missed."""

_REMEMBERED = 2 * ON_TIME
_TRIES = 20
_ID_LENGTH = 96


class BadTick(ValueError):
    """A tick that says nothing this jetq can read."""


class Ticks:
    """Makes jobs of ticks. Any number of workers do, of the same ticks: what counts is stored by one of them.

    Guarantee: tests/faults/test_recurring.py: through kills of workers and of the server no tick is lost or doubled.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._random = random.Random()
        self._missing: dict[tuple[str, str], float] = {}

    async def turn(self, delivery: Delivery) -> None:
        """Make a job of a tick, or nothing if that was decided already. Raises BadTick, BrokerError."""
        try:
            record = read_record(delivery.headers.get(SCHEDULE_HEADER, ""))
            if (record.queue, record.name) != (delivery.queue, delivery.schedule):
                raise ValueError(f"it says that it is of schedule {record.name} in queue {record.queue}")
            nominal = _nominal(record, delivery.next_at)
        except (ValueError, DefinitionError) as error:
            raise BadTick(f"this tick of schedule {delivery.schedule} cannot be read: {error}") from None
        await self._decide(record, delivery.body, nominal)

    async def catch_up(self, queue: str) -> None:
        """Make jobs of the newest ticks that were missed: the broker was down at their time. Raises BrokerError."""
        broker = self._broker
        for stored in await broker.schedules(queue):
            record, nominal = stored.record, self._newest(stored)
            if nominal is None or _is_decided(await self._broker.ticked(queue, record.name), nominal, broker.now()):
                self._missing.pop((queue, record.name), None)
            else:
                await self._decide(record, stored.body, nominal)
                await self._wake(stored, nominal)

    async def _wake(self, stored: StoredSchedule, nominal: float) -> None:
        """Store a schedule anew that missed two ticks in a row: one that fires while the store is full does not fire
        again before that, or before the server is restarted (nats-server 2.15.1)."""
        record = stored.record
        before = self._missing.setdefault((record.queue, record.name), nominal)
        if nominal > before and await self._broker.wake_schedule(stored):
            del self._missing[record.queue, record.name]
            _log.warning(
                "schedule %s had ceased to tick (was the broker's store full?); it is set up anew", record.name
            )

    def _newest(self, stored: StoredSchedule) -> float | None:
        """The newest time at which it should have ticked, of those that are a while ago."""
        record, now = stored.record, self._broker.now()
        if record.paused:
            return None
        try:
            nominal = timetable_of(record).previous(now - _SURE)
        except DefinitionError:
            return None
        return None if nominal is None or nominal <= stored.stored_at else nominal

    async def _decide(self, record: ScheduleRecord, body: bytes, nominal: float) -> None:
        broker = self._broker
        for _ in range(_TRIES):
            now = broker.now()
            if _is_too_late(record, nominal, now):
                _log.info("schedule %s: its tick for %s came too late to be run", record.name, _utc(nominal))
                return
            mark = await broker.ticked(record.queue, record.name)
            if _is_decided(mark, nominal, now):
                return
            ticked = mark.ticked.having(nominal, now - _REMEMBERED)
            due = self._due(record, nominal, now)
            job = job_of_tick(record, body, nominal, now if due is not None else None)
            if await broker.store_tick(record, ticked, mark.sequence, job, due):
                return
            if await self._is_overlap(record, ticked, mark.sequence):
                return
        raise NotStored(f"the tick of schedule {record.name} for {_utc(nominal)} is not stored: too many at once")

    async def _is_overlap(self, record: ScheduleRecord, ticked: Ticked, expected: int) -> bool:
        """Whether it is not the mark that was another, so that the job of an earlier tick stands: then this one is
        decided too, and nothing runs."""
        if not await self._broker.store_tick(record, ticked, expected, None, None):
            return False
        _log.info("schedule %s: the job before is not done, so this tick makes none", record.name)
        return True

    def _due(self, record: ScheduleRecord, nominal: float, now: float) -> float | None:
        due = nominal + self._random.uniform(0.0, record.jitter) if record.jitter else nominal
        return due if due > now else None


def _is_decided(mark: Mark, nominal: float, now: float) -> bool:
    """Whether it is known what became of a tick: of an old one newer ones tell that."""
    return mark.ticked.has(nominal) or (now - nominal > ON_TIME and nominal < mark.ticked.newest)


def job_of_tick(record: ScheduleRecord, body: bytes, nominal: float, enqueued: float | None) -> JobRecord:
    """The job that a tick becomes. Its id says of which schedule and time, so it cannot be stored twice."""
    key = job_key(record)
    id = _id(record, nominal)
    meta = replace(record.meta, schedule=record.name, nominal=nominal, enqueued=enqueued)
    if record.expires is not None:
        meta = replace(meta, expires=nominal + record.expires)
    return JobRecord(
        id=id if key == NO_KEY else keyed_id(id, key),
        task=record.task,
        queue=record.queue,
        body=body,
        key=key,
        meta=meta,
        level=record.level,
    )


def _id(record: ScheduleRecord, nominal: float) -> str:
    whole = datetime.fromtimestamp(nominal, UTC)
    stamp = f"{whole:%Y%m%dT%H%M%S}" + (f"-{whole.microsecond // 1000:03}" if whole.microsecond else "")
    name = f"{record.queue}:{record.name.replace('.', ':')}"
    if len(name) + len(stamp) + 1 > _ID_LENGTH:
        name = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name}:{stamp}"


def _nominal(record: ScheduleRecord, next_at: float | None) -> float:
    """For which time a tick is that came when `next_at` was the next. Not when it came: it may be late."""
    if next_at is None:
        raise ValueError("it does not say when the next one is")
    nominal = timetable_of(record).before(next_at)
    if nominal is None:
        raise ValueError(f"{record.pattern!r} never was before {_utc(next_at)}")
    return nominal


def _is_too_late(record: ScheduleRecord, nominal: float, now: float) -> bool:
    """Whether a late tick is not worth a job: a newer one is due, or it is older than the catch-up allows."""
    late = now - nominal
    if late <= ON_TIME:
        return False
    return late > record.catch_up or timetable_of(record).next(nominal) <= now


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
