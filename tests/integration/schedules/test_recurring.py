"""Recurring schedules: stored once, ticking once, and changed, paused and removed from anywhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import nats
import pytest
from msgspec.structs import replace

from jetq import DefinitionError, Jetq, Schedule, ScheduleNotFound, Worker, current_job
from jetq.encoding.headers import SCHEDULE_HEADER
from jetq.encoding.schedules import encode_record
from jetq.jetstream.transport.nats_client import header_block
from jetq.model.job import Delivery
from jetq.model.schedule import ScheduleRecord, Ticked
from jetq.operations.schedules import find_schedule, pause_schedule, put_schedule, run_schedule
from jetq.worker.schedules.ticks import Ticks, job_of_tick
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, share, until, working

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_every_second_is_run_once_by_two_workers_with_its_nominal_time(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[tuple[str, datetime]] = []

    @app.task(name="beats", schedules=[Schedule(cron="* * * * * *", arguments={"who": "x"})])
    async def beats(who: str) -> None:
        job = current_job()
        assert job.schedule == "beats" and job.nominal is not None
        ran.append((job.id, job.nominal))

    other = Jetq(nats_url, namespace=app.settings.namespace)
    share(other, beats)
    async with working(app), working(other):
        await until(lambda: len(ran) >= 5)
        (info,) = await app.aschedules()
        assert (info.name, info.queue, info.task, info.arguments) == ("beats", "default", "beats", {"who": "x"})
        assert (info.cron, info.tz, info.source, info.paused) == ("* * * * * *", None, "code", False)
        assert info.last is not None and info.next[0] > info.last
        assert await app.aunschedule("beats") is True
        assert await app.aunschedule("beats") is False
    times = [nominal for _, nominal in ran]
    assert Counter(times) == Counter(set(times))
    assert len({id for id, _ in ran}) == len(ran)
    whole = sorted(int(each.timestamp()) for each in times)
    assert whole == list(range(whole[0], whole[0] + len(whole)))


async def test_workers_that_start_at_once_leave_one_schedule_written_once(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="beats", every=3600)
    async def beats() -> None: ...

    apps = [Jetq(nats_url, namespace=app.settings.namespace) for _ in range(5)]
    for each in apps:
        share(each, beats)
    workers = [Worker(each) for each in apps]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    broker = await app.session.broker()
    async with asyncio.timeout(10):
        while not (standing := await broker.schedules("default")):
            await asyncio.sleep(0.02)

    async def is_as_written() -> bool:
        return await broker.schedules("default") == standing

    await stays_so_for(0.5, is_as_written)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    async with working(apps[0]):
        await stays_so_for(0.5, is_as_written)
    for each in (*apps, app):
        await each.session.aclose()


async def test_a_schedule_is_written_only_if_it_changed_and_stays_paused(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="report")
    async def report(days: int) -> None: ...

    broker = await app.session.broker()
    first = await app.aschedule("weekly", report.bind(7), cron="0 9 * * MON", tz="Europe/Berlin")
    stored = await find_schedule(broker, "weekly")
    assert (first.cron, first.tz, first.source) == ("0 0 9 * * MON", "Europe/Berlin", "runtime")
    await app.aschedule("weekly", report.bind(7), cron="0 9 * * MON", tz="Europe/Berlin")
    assert await find_schedule(broker, "weekly") == stored
    assert await pause_schedule(broker, "weekly", paused=True) is True
    assert await pause_schedule(broker, "weekly", paused=True) is False
    changed = await app.aschedule("weekly", report.bind(14), cron="0 9 * * MON", tz="Europe/Berlin")
    assert (changed.arguments, changed.paused, changed.next) == ({"days": 14}, True, ())
    assert await pause_schedule(broker, "weekly", paused=False) is True
    (info,) = await app.aschedules()
    assert info.next[0] > datetime.now(UTC)
    assert info.next[0].isoweekday() == 1
    with pytest.raises(ScheduleNotFound):
        await pause_schedule(broker, "monthly", paused=True)
    await app.session.aclose()


@pytest.mark.slow
async def test_a_paused_schedule_does_not_tick_and_goes_on_when_resumed(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[str | None] = []

    @app.task(name="note")
    async def note() -> None:
        ran.append(current_job().schedule)

    async with working(app):
        broker = await app.session.broker()
        await app.aschedule("fast", note.bind(), every=1)
        await until(lambda: len(ran) >= 2)
        await pause_schedule(broker, "fast", paused=True)
        await asyncio.sleep(0.3)
        seen = len(ran)
        await stays_so_for(1.5, lambda: len(ran) == seen)
        id = await run_schedule(broker, "fast")
        await until(lambda: len(ran) == seen + 1)
        assert set(ran) == {"fast"}
        assert id
        await pause_schedule(broker, "fast", paused=False)
        await until(lambda: len(ran) >= seen + 2)
        assert len(await broker.schedules("default")) == 1


@pytest.mark.slow
async def test_overlap_skip_makes_no_job_while_one_is_running_and_allow_does(nats_url: str) -> None:
    app = fresh_app(nats_url)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.task(name="slow")
    async def slow(which: str) -> None:
        running[which] += 1
        most[which] = max(most[which], running[which])
        await asyncio.sleep(1.6)
        running[which] -= 1

    async with working(app):
        await app.aschedule("skips", slow.bind("skip"), every=1, overlap="skip")
        await app.aschedule("allows", slow.bind("allow"), every=1)
        await until(lambda: most["allow"] >= 2)
        await app.aunschedule("skips")
        await app.aunschedule("allows")
    assert most["skip"] == 1


async def test_a_tick_delivered_again_makes_no_second_job(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="once")
    async def once() -> None: ...

    await app.aschedule("daily", once.bind(), cron="@daily")
    broker = await app.session.broker()
    stored = await find_schedule(broker, "daily")
    nominal = float(int(time.time()))
    ticks = [Ticks(broker) for _ in range(6)]
    await asyncio.gather(*(each.decide(stored.record, stored.body, nominal) for each in ticks))
    jobs = await broker.stored_jobs("default", task="once")
    assert [found.delivery.id for found in jobs] == [job_of_tick(stored.record, stored.body, nominal, None).id]
    await broker.remove("default", jobs[0].delivery.sequence)
    for each in ticks:
        await each.decide(stored.record, stored.body, nominal)
    assert await broker.stored_jobs("default", task="once") == []
    for n in (3, 1, 2):  # in whatever order
        await ticks[0].decide(stored.record, stored.body, nominal - n)
    assert len(await broker.stored_jobs("default", task="once")) == 3
    await app.session.aclose()


@pytest.mark.parametrize(
    ("catch_up", "missed_for", "fires"), [(3600.0, 120.0, True), (60.0, 120.0, False), (0.0, 30.0, True)]
)
async def test_the_newest_missed_tick_is_caught_up_once_if_young_enough(
    nats_url: str, catch_up: float, missed_for: float, fires: bool
) -> None:
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    nominal = float(int(time.time() - missed_for))
    at = datetime.fromtimestamp(nominal, UTC)
    record = ScheduleRecord(
        "missed", "default", "t", f"{at.second} {at.minute} {at.hour} * * *", catch_up=catch_up, source="runtime"
    )
    await put_schedule(broker, record, b"{}")

    class Older:
        """The broker, whose schedules were stored a day ago."""

        def __getattr__(self, verb: str) -> Any:
            return getattr(broker, verb)

        async def schedules(self, queue: str) -> Any:
            return [replace(each, stored_at=each.stored_at - 86400) for each in await broker.schedules(queue)]

    older: Any = Older()
    await Ticks(broker).catch_up("default")
    assert await broker.stored_jobs("default", task="t") == []  # the schedule is younger than that time
    await Ticks(older).catch_up("default")
    await Ticks(older).catch_up("default")
    jobs = await broker.stored_jobs("default", task="t")
    assert [job_of_tick(record, b"{}", nominal, None).id] * fires == [found.delivery.id for found in jobs]
    await app.session.aclose()


async def test_a_tick_is_kept_as_long_as_it_may_become_a_job(nats_url: str) -> None:
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    record = ScheduleRecord("second", "default", "t", "* * * * * *", catch_up=600.0)
    await put_schedule(broker, record, b"{}")
    client = await nats.connect(nats_url)
    js = client.jetstream()
    stream = f"{app.settings.namespace.upper()}_DEFAULT_JOBS"
    subject = f"{app.settings.namespace}.default.tick.second"
    async with asyncio.timeout(5):
        while True:
            try:
                tick = await js.get_last_msg(stream, subject)
                break
            except nats.js.errors.NotFoundError:
                await asyncio.sleep(0.1)
    assert tick.headers is not None
    assert tick.headers["Nats-TTL"] in ("720s", "12m0s")
    await client.close()
    await app.session.aclose()


async def test_old_ticks_that_wait_for_a_worker_run_once_not_all(nats_url: str) -> None:
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    record = ScheduleRecord("old", "default", "t", "0 * * * * *")
    await put_schedule(broker, record, b"{}")
    minute = time.time() // 60 * 60
    ticks = Ticks(broker)
    for n in range(10, -1, -1):
        await ticks.decide(record, b"{}", minute - n * 60)
    ran = {found.delivery.id for found in await broker.stored_jobs("default", task="t")}
    assert job_of_tick(record, b"{}", minute, None).id in ran
    assert len(ran) <= 2  # the last, and the one before it while that is not a minute old
    await app.session.aclose()


async def test_jitter_makes_the_job_due_within_its_bound_after_its_time(nats_url: str) -> None:
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    record = ScheduleRecord("spread", "default", "t", "* * * * * *", jitter=600.0)
    await put_schedule(broker, replace(record, paused=True), b"{}")
    now = float(int(time.time()))
    ticks = Ticks(broker)
    for n in range(20):
        await ticks.decide(record, b"{}", now - n)
    jobs = await broker.stored_jobs("default", task="t")
    dues = [found.due for found in jobs if found.due is not None]
    assert len(jobs) == 20
    assert len(set(dues)) >= 10
    assert all(now - 20 <= due <= now + 600 for due in dues)
    await app.session.aclose()


@pytest.mark.parametrize("workers", [1, 4])
async def test_each_of_many_ticks_at_once_becomes_a_job_once(nats_url: str, workers: int) -> None:
    """As when workers start that find a minute's ticks waiting; and each tick comes to two of them."""
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    record = ScheduleRecord("dense", "default", "t", "@every 1s")
    await put_schedule(broker, replace(record, paused=True), b"{}")
    now = float(int(time.time()))
    times = [now - age for age in range(45, 0, -1)]
    ticks = [Ticks(broker) for _ in range(workers)]
    turns = [
        ticks[(n + copy) % workers].make_job(_tick(record, nominal))
        for n, nominal in enumerate(times)
        for copy in (0, 1)
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*turns)
    jobs = [found.delivery.id for found in await broker.stored_jobs("default", task="t")]
    assert sorted(jobs) == [job_of_tick(record, b"{}", each, None).id for each in times]
    await app.session.aclose()


def _tick(record: ScheduleRecord, nominal: float) -> Delivery:
    headers = {SCHEDULE_HEADER: encode_record(record).decode()}
    return Delivery(
        record.queue, "", "-", "stray-1", b"{}", headers, 1, 1, nominal, 0.0, "", "", schedule=record.name,
        next_at=nominal + 1,
    )  # fmt: skip


async def test_a_tick_that_a_worker_took_in_time_is_not_late_when_another_gets_it(nats_url: str) -> None:
    """Its worker was killed, its lease had to lapse, or the broker was away: it became no job, and is not lost."""
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    record = ScheduleRecord("dense", "default", "t", "@every 1s")
    await put_schedule(broker, replace(record, paused=True), b"{}")
    ticks, now = Ticks(broker), float(int(time.time()))
    await ticks.decide(record, b"{}", now)
    await ticks.decide(record, b"{}", now - 90, came=now - 60)
    await ticks.decide(record, b"{}", now - 90, came=now - 60)
    await ticks.decide(record, b"{}", now - 91, came=now)  # came to nobody's hands in time
    await ticks.decide(record, b"{}", now - 260, came=now - 250)  # the mark may have forgotten it
    ran = [found.delivery.id for found in await broker.stored_jobs("default", task="t")]
    assert sorted(ran) == sorted(job_of_tick(record, b"{}", each, None).id for each in (now, now - 90))
    await app.session.aclose()


@pytest.mark.parametrize("why", ["its leader changed", "too many at once"])
async def test_a_tick_that_is_not_taken_just_now_becomes_a_job_later(
    why: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: what passes by itself makes no dead tick."""
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    connection = broker.connection  # type: ignore[attr-defined]
    offer, begun = connection.offer, list[bytes]()
    ran: list[int] = []

    def begins(block: bytes) -> bool:
        return b"Nats-Batch-Sequence: 1\r\n" in block

    def without_the_first(subject: str, payload: bytes, reply: str, block: bytes) -> bool:
        if begins(block):
            begun.append(payload)
            if len(begun) <= 3:
                return True
        return bool(offer(subject, payload, reply, block))

    def with_many_others(subject: str, payload: bytes, reply: str, block: bytes) -> bool:
        if begins(block):
            for number in range(0 if begun else 60):
                other = {"Nats-Batch-Id": f"other{number}", "Nats-Batch-Sequence": "1"}
                offer(subject, b"", "", header_block(other))
            begun.append(payload)
        return bool(offer(subject, payload, reply, block))

    @app.task(name="t", schedules=[Schedule(every=1)])
    async def run() -> None:
        ran.append(1)

    await broker.setup("default")
    monkeypatch.setattr(connection, "offer", without_the_first if why == "its leader changed" else with_many_others)
    async with working(app, queues=["default"]):
        await until(lambda: ran, 30)
        assert not await broker.dead("default")
    assert len(begun) > 3


async def test_an_unreadable_tick_is_dead_lettered_with_its_bytes(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="other")
    async def other() -> None: ...

    broker = await app.session.broker()
    await broker.setup("default")
    namespace = app.settings.namespace
    connection = broker.connection  # type: ignore[attr-defined]
    readable = encode_record(ScheduleRecord("x", "default", "other", "* * * * * *")).decode()
    for headers in ({}, {SCHEDULE_HEADER: "{"}, {SCHEDULE_HEADER: readable}):
        await connection.request(f"{namespace}.default.tick.x", b"bytes", headers=headers, timeout=5)
    async with working(app):
        async with asyncio.timeout(10):
            while len(dead := await broker.dead("default")) < 3:
                await asyncio.sleep(0.05)
    assert {(entry.letter.reason, entry.body) for entry in dead} == {("undecodable", b"bytes")}


async def test_a_zone_or_pattern_that_cannot_be_is_refused_where_it_is_written(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="t")
    async def t(n: int) -> None: ...

    for when, sentence in [
        ({"cron": "0 25 * * *"}, "hour: 25 is not within 0-23"),
        ({"cron": "0 9 * * *", "tz": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
        ({"cron": "0 9 * * *", "every": 5}, "cron or every, and not both"),
        ({}, "cron or every, and not both"),
        ({"every": 5, "tz": "UTC"}, "tz goes with cron"),
        ({"every": 0.5}, "whole seconds, from 1"),
        ({"cron": "@daily", "overlap": "wait"}, "overlap is 'allow' or 'skip'"),
        ({"cron": "@daily", "jitter": -1}, "jitter: expected a duration"),
    ]:
        with pytest.raises(DefinitionError) as caught:
            await app.aschedule("x", t.bind(1), **when)  # type: ignore[arg-type]
        assert sentence in str(caught.value)
    with pytest.raises(DefinitionError, match="delay is about one job"):
        await app.aschedule("x", t.options(delay=5).bind(1), every=5)
    with pytest.raises(DefinitionError, match="do not fit"):
        app.task(name="needs", every=5)(t.fn)
    with pytest.raises(DefinitionError, match="each needs a name"):
        app.task(name="two", schedules=[Schedule(every=5), Schedule(every=6)])(t.fn)
    await app.session.aclose()


def test_which_ticks_were_decided_is_remembered_in_any_order() -> None:
    ticked = Ticked()
    for nominal in (1005.0, 1003.0, 1004.0, 1001.0):
        ticked = ticked.having(nominal, oldest=1002.0)
    assert ticked.newest == 1005.0
    assert [ticked.has(float(n)) for n in (1001, 1002, 1003, 1004, 1005, 1006)] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
