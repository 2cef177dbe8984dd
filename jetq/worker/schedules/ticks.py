"""Ticks of recurring schedules become jobs: each nominal time once, however often its tick is delivered."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from datetime import UTC, datetime
from typing import Protocol
from weakref import WeakValueDictionary

from msgspec.structs import replace

from jetq.broker.clock import Clock
from jetq.broker.consuming import Consuming
from jetq.broker.schedules import Schedules
from jetq.encoding.headers import SCHEDULE_HEADER, NewerHeader
from jetq.encoding.schedules import read_record
from jetq.errors import BrokerError, DefinitionError, Rejected
from jetq.model.job import Delivery, JobRecord
from jetq.model.names import LONGEST_ID, NO_KEY, keyed_id
from jetq.model.outcome import dead
from jetq.model.schedule import ON_TIME, Mark, ScheduleRecord, StoredSchedule, Ticked, job_key, time_token, timetable_of
from jetq.runtime.backoff import backoff
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.leases import Leases

__all__ = ["BadTick", "NewerTick", "TickRunner", "Ticks", "job_of_tick"]

_log = logging.getLogger("jetq.worker")

_MISSED_AFTER = 10.0
"""Seconds after its nominal time at which a tick that no worker has decided counts as missed."""

_MARK_COVERS = 5 * ON_TIME
"""Seconds back from now for which the mark says of each tick whether the tick was decided."""

_DECIDED_AFTER = 4 * ON_TIME
"""Seconds after its nominal time from which a tick counts as decided if a newer tick is decided: the mark may no longer
name the older tick."""

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 5.0
"""Seconds before a tick that could not be stored is tried again."""

_FIRST_PAUSE, _LAST_PAUSE = 0.002, 0.1
"""The first and the longest pause before the mark is read again, in seconds, after another worker has just written the
mark. Each pause is a random part of that, so that the workers do not meet again."""


class BadTick(ValueError):
    """A tick that this jetq cannot read."""


class NewerTick(ValueError):
    """A tick of a schedule that a newer jetq has written. The tick is left to its lease, and a newer worker may get
    it."""


class _Ticking(Schedules, Clock, Protocol):
    """The parts of the broker that `Ticks` uses."""


class _Serving(Consuming, Clock, Protocol):
    """The parts of the broker that a worker which is handed ticks uses."""


class Ticks:
    """Makes jobs of ticks. Any number of workers may handle the same ticks: one worker stores the decision that counts.

    In one worker the ticks of a schedule take turns, because each writes the same mark. Workers repeat a write until it
    succeeds. So each of many waiting ticks is decided, however many workers start at the same time.

    Guarantee: tests/faults/test_recurring.py: through kills of workers and of the server no tick is lost or doubled; of
    those that waited for a worker, none that was on time is lost.
    """

    def __init__(self, broker: _Ticking) -> None:
        self._broker = broker
        self._random = random.Random()
        self._missing: dict[tuple[str, str], float] = {}
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def make_job(self, delivery: Delivery, came: float | None = None) -> None:
        """Make a job of a tick, or nothing if the tick was decided already. came: when the tick first came to a worker,
        in unix seconds; None means now. Raises BadTick, NewerTick, BrokerError."""
        try:
            record = read_record(delivery.headers.get(SCHEDULE_HEADER, ""))
            if (record.queue, record.name) != (delivery.queue, delivery.schedule):
                raise ValueError(f"it says that it is of schedule {record.name} in queue {record.queue}")
            nominal = _nominal(record, delivery.next_at)
        except NewerHeader as error:
            raise NewerTick(str(error)) from None
        except (ValueError, DefinitionError) as error:
            raise BadTick(f"this tick of schedule {delivery.schedule} cannot be read: {error}") from None
        async with self._locks.setdefault((record.queue, record.name), asyncio.Lock()):
            await self.decide(record, delivery.body, nominal, came)

    async def catch_up(self, queue: str) -> None:
        """Make jobs of the newest ticks that were missed because the broker was down at their time. Raises
        BrokerError."""
        broker = self._broker
        for stored in await broker.schedules(queue):
            record, nominal = stored.record, self._newest(stored)
            if nominal is None or _is_decided(
                await broker.tick_mark(queue, record.name), nominal, broker.now(), broker.now()
            ):
                self._missing.pop((queue, record.name), None)
            else:
                await self.decide(record, stored.body, nominal)
                # After the missed tick is decided: a schedule that is stored anew counts no tick before that time as
                # missed.
                await self._wake(stored, nominal)

    async def _wake(self, stored: StoredSchedule, nominal: float) -> None:
        """Store a schedule anew if it missed two ticks in a row. A schedule that fires while the store is full does not
        fire again before it is stored anew, or before the server is restarted (nats-server 2.15.1)."""
        record = stored.record
        before = self._missing.setdefault((record.queue, record.name), nominal)
        if nominal > before and await self._broker.wake_schedule(stored):
            del self._missing[record.queue, record.name]
            _log.warning(
                "schedule %s had ceased to tick (was the broker's store full?); it is set up anew", record.name
            )

    def _newest(self, stored: StoredSchedule) -> float | None:
        """Return the newest nominal time at which the schedule should have ticked at least 10 s ago; None if there is
        none."""
        record, now = stored.record, self._broker.now()
        if record.paused:
            return None
        try:
            nominal = timetable_of(record).previous(now - _MISSED_AFTER)
        except DefinitionError:
            return None
        return None if nominal is None or nominal <= stored.stored_at else nominal

    async def decide(self, record: ScheduleRecord, body: bytes, nominal: float, came: float | None = None) -> None:
        """Store what becomes of a tick, unless the tick is decided already. Return only when the tick is decided.
        Raises BrokerError. came: when the tick came to a worker, in unix seconds; None means now."""
        broker, pauses = self._broker, backoff(_FIRST_PAUSE, _LAST_PAUSE)
        came = broker.now() if came is None else came
        if _is_too_late(record, nominal, came):
            _log.info("schedule %s: its tick for %s came too late to be run", record.name, _utc(nominal))
            return
        while True:
            now = broker.now()
            mark = await broker.tick_mark(record.queue, record.name)
            if _is_decided(mark, nominal, came, now):
                return
            ticked = mark.ticked.having(nominal, now - _MARK_COVERS)
            due = self._due(record, nominal, now)
            job = job_of_tick(record, body, nominal, now if due is not None else None)
            # The mark and the job are stored in one step: stored apart, a worker that dies in between would lose the
            # job or make it twice.
            if await broker.store_tick(record, ticked, mark.sequence, job, due):
                return
            if await self._is_overlap(record, ticked, mark.sequence):
                return
            # Another worker wrote the mark, so one of the workers went on.
            await asyncio.sleep(self._random.uniform(0.0, next(pauses)))

    async def _is_overlap(self, record: ScheduleRecord, ticked: Ticked, expected: int) -> bool:
        """Return whether `store_tick` refused the job because the job of an earlier tick is still stored, and not
        because another worker wrote the mark. Then this tick is decided without a job."""
        if not await self._broker.store_tick(record, ticked, expected, None, None):
            return False
        _log.info("schedule %s: the job before is not done, so this tick makes none", record.name)
        return True

    def _due(self, record: ScheduleRecord, nominal: float, now: float) -> float | None:
        due = nominal + self._random.uniform(0.0, record.jitter) if record.jitter else nominal
        return due if due > now else None


class TickRunner:
    """Handles the ticks that come to a worker."""

    def __init__(self, ticks: Ticks, broker: _Serving, leases: Leases, settlement: Settlement) -> None:
        self._ticks = ticks
        self._broker = broker
        self._leases = leases
        self._settlement = settlement

    async def run(self, attempt: Attempt) -> None:
        """Make a job of a tick, then remove the tick. This also happens while the worker is stopping, because it takes
        a moment and charges nothing.

        While the broker cannot be reached or has no room, try again for as long as the lease holds: a tick that is left
        to its lease would come back too late.
        """
        delivery = attempt.delivery
        # Decide by the time at which the tick first came to a worker: neither the wait for its turn in this worker nor
        # a worker that was killed makes the tick late.
        came = self._broker.now() - (delivery.count - 1) * self._broker.lease
        pauses = backoff(_FIRST_BACKOFF, _LAST_BACKOFF)
        try:
            while self._leases.valid(delivery):
                try:
                    await self._ticks.make_job(delivery, came)
                    if self._leases.valid(delivery):
                        # The tick is removed after its job is stored: removed before, a worker that dies would lose the
                        # job.
                        self._broker.finish(delivery)
                    return
                except NewerTick as error:
                    _log.warning("a tick of schedule %s is left to a newer worker: %s", delivery.schedule, error)
                    return
                except BadTick as error:
                    await self._settlement.settle(attempt, dead("undecodable", "jetq.BadTick", str(error)))
                    return
                except Rejected as error:
                    await self._settlement.settle(attempt, dead("failed", "jetq.Rejected", error.message))
                    return
                except BrokerError as error:
                    pause = next(pauses)
                    _log.warning(
                        "a tick of schedule %s is no job yet, trying again in %g s: %s",
                        delivery.schedule, pause, error.message,
                    )  # fmt: skip
                    await asyncio.sleep(pause)
            _log.warning("a tick of schedule %s: its lease lapsed, it comes again", delivery.schedule)
        finally:
            self._leases.drop(delivery)


def _is_decided(mark: Mark, nominal: float, came: float, now: float) -> bool:
    """Return whether it is known what became of a tick. If the tick came late, or the mark no longer covers its time, a
    newer decided tick is proof enough."""
    if mark.ticked.has(nominal):
        return True
    return nominal < mark.ticked.newest and (came - nominal > ON_TIME or now - nominal > _DECIDED_AFTER)


def job_of_tick(record: ScheduleRecord, body: bytes, nominal: float, enqueued: float | None) -> JobRecord:
    """Return the job that a tick becomes. The job's id names its schedule and nominal time, so the job cannot be stored
    twice."""
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
    stamp = time_token(nominal)
    name = f"{record.queue}:{record.name.replace('.', ':')}"
    if len(name) + len(stamp) + 1 > LONGEST_ID:
        name = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name}:{stamp}"


def _nominal(record: ScheduleRecord, next_at: float | None) -> float:
    """Return the nominal time of a tick that came when `next_at` was the next one. The time at which the tick came does
    not tell: the tick may be late. Raises ValueError if there is no such time."""
    if next_at is None:
        raise ValueError("it does not say when the next one is")
    nominal = timetable_of(record).before(next_at)
    if nominal is None:
        raise ValueError(f"{record.pattern!r} never was before {_utc(next_at)}")
    return nominal


def _is_too_late(record: ScheduleRecord, nominal: float, now: float) -> bool:
    """Return whether a late tick is not worth a job: a newer tick is due, or the tick is older than the schedule's
    catch-up allows."""
    late = now - nominal
    if late <= ON_TIME:
        return False
    return late > record.catch_up or timetable_of(record).next(nominal) <= now


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
