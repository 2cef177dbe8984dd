"""One clock, the server's: that of a worker's or a producer's machine may say what it likes."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from jetq import Jetq, RateLimited
from jetq.worker.schedules.ticks import Ticks
from tests.apps.working import fresh_app, until, working

pytestmark = pytest.mark.anyio

WAIT = 1.5
GENEROUS = 60.0
SKEWS = [300.0, -300.0, 3600.0, -3600.0, 0.05, -0.05]


class Skewed:
    """This process's clock, as far off as is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by = 0.0
        self.right = time.time
        monkeypatch.setattr(time, "time", lambda: self.right() + self.by)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Skewed:
    return Skewed(monkeypatch)


def app_that_notes(url: str, runs: list[float]) -> Jetq:
    app = fresh_app(url)

    @app.task(name="clock.plain")
    async def plain() -> None:
        runs.append(time.monotonic())

    @app.task(name="clock.fails", wait=WAIT, max_attempts=2)
    async def fails() -> None:
        runs.append(time.monotonic())
        raise ValueError

    @app.task(name="clock.limited")
    async def limited() -> None:
        runs.append(time.monotonic())
        if len(runs) == 1:
            raise RateLimited(WAIT)

    return app


@pytest.mark.parametrize("skew", [SKEWS[0], SKEWS[1], *(pytest.param(s, marks=pytest.mark.slow) for s in SKEWS[2:])])
async def test_delays_retries_pauses_and_expiry_go_by_the_servers(skew: float, nats_url: str, clock: Skewed) -> None:
    clock.by = skew
    for task, options in [
        ("clock.plain", {"delay": WAIT, "expires": 30.0}),
        ("clock.fails", {"expires": 30.0}),
        ("clock.limited", {}),
    ]:
        runs: list[float] = []
        app = app_that_notes(nats_url, runs)
        async with working(app):
            before = time.monotonic()
            await app.asend(task, **options)  # type: ignore[arg-type]
            await until(lambda runs=runs, task=task: len(runs) == (1 if task == "clock.plain" else 2), GENEROUS)  # type: ignore[misc]
            since = before if task == "clock.plain" else runs[0]
            assert runs[-1] - since >= WAIT - abs(skew if abs(skew) < 1 else 0.05), task


async def test_a_time_that_the_user_names_stays_that_time(nats_url: str, clock: Skewed) -> None:
    runs: list[float] = []
    app = app_that_notes(nats_url, runs)
    at = datetime.now(UTC) + timedelta(seconds=WAIT)
    clock.by = 300.0  # by which it seems to be over
    async with working(app):
        before = time.monotonic()
        await app.asend("clock.plain", at=at)
        await until(lambda: runs, GENEROUS)
    assert runs[0] - before >= WAIT - 0.2


async def test_a_clock_that_is_set_while_it_runs_moves_nothing(nats_url: str, clock: Skewed) -> None:
    runs: list[float] = []
    app = app_that_notes(nats_url, runs)
    async with working(app):
        await app.asend("clock.plain")
        await until(lambda: runs)
        for clock.by in (3600.0, -3600.0):
            before, count = time.monotonic(), len(runs)
            await app.asend("clock.plain", delay=WAIT, expires=30.0)
            await until(lambda count=count: len(runs) > count, GENEROUS)  # type: ignore[misc]
            assert runs[-1] - before >= WAIT - 0.05


async def test_code_that_is_not_async_goes_by_the_servers_clock_too(nats_url: str, clock: Skewed) -> None:
    clock.by = -300.0
    app = app_that_notes(nats_url, [])
    timed = app.tasks["clock.plain"].options(delay=100.0, expires=50.0)
    try:
        for _ in range(2):  # before and after the server's time is known
            job = await asyncio.to_thread(timed.delay)
            found = await (await app.session.broker()).find("default", job.id)
            assert found is not None
            assert found.due is not None
            assert abs(found.due - clock.right() - 100.0) < 30
        state = await asyncio.to_thread(lambda: job.reschedule(delay=200.0))
        found = await (await app.session.broker()).find("default", job.id)
        assert state == "scheduled"
        assert found is not None
        assert found.due is not None
        assert abs(found.due - clock.right() - 200.0) < 30
    finally:
        await app.session.aclose()
        await asyncio.to_thread(app.session.close)


async def test_no_tick_becomes_a_job_before_its_time(nats_url: str, clock: Skewed) -> None:
    clock.by = 300.0
    app = app_that_notes(nats_url, [])
    in_two_minutes = datetime.fromtimestamp(clock.right() + 120, UTC)
    try:
        await app.aschedule(
            "soon", app.call("clock.plain"), cron=f"{in_two_minutes.minute} {in_two_minutes.hour} * * *"
        )
        broker = await app.session.broker()
        await Ticks(broker).catch_up("default")
        assert not await broker.stored_jobs("default", limit=10)
    finally:
        await app.session.aclose()
