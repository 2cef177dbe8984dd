"""`jetq.testing`: what users' tests can run of their jobs, and when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jetq import (
    ArgumentError,
    Jetq,
    JobContext,
    Queue,
    RateLimited,
    Reject,
    ResultTimeout,
    Schedule,
    TaskFailed,
    current_job,
    default_app,
)
from jetq.testing import AppTester, Ran, in_memory
from tests.unit.testing.tasks import RAN, add, book, calling_without_await, failing, forever, parent, patient, rejecting


def test_nothing_runs_before_it_is_asked_for(jobs: AppTester) -> None:
    job = add.delay(2, y=3)

    with pytest.raises(ResultTimeout):
        job.result(timeout=0.05)
    assert job.status() == "queued"
    assert jobs.run_until_empty() == Ran(succeeded=1)

    assert job.result(timeout=0.05) == 5
    assert job.status() == "succeeded"
    assert jobs.run_until_empty() == Ran()


def test_arguments_cross_as_they_would(jobs: AppTester) -> None:
    book.delay(date(2026, 12, 24), "Ada", "Grace", nights=3)

    assert jobs.run_until_empty().succeeded == 1

    assert RAN == ["24.12. Ada, Grace {'nights': 3}"]
    with pytest.raises(ArgumentError):
        add.delay("two")  # type: ignore[arg-type]


def test_what_jobs_enqueue_runs_too(jobs: AppTester) -> None:
    parent.delay(5)
    calling_without_await.delay()

    with pytest.warns(match="without await"):
        assert jobs.run_until_empty() == Ran(succeeded=8)


def test_jobs_of_every_queue_run(jobs: AppTester) -> None:
    add.options(queue="elsewhere").delay(1)

    assert jobs.run_until_empty() == Ran(succeeded=1)


def test_jobs_without_end_are_an_error(jobs: AppTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jetq.testing.tester._MOST_ATTEMPTS", 50)
    forever.delay()

    with pytest.raises(AssertionError, match="for ever"):
        jobs.run_until_empty()


@pytest.mark.anyio
async def test_the_same_from_async_code(jobs: AppTester) -> None:
    job = await add.adelay(2)

    assert (await jobs.arun_until_empty()).succeeded == 1
    assert await job.aresult(timeout=0.05) == 3

    await rejecting.adelay()
    assert jobs.run_until_empty().dead == 1  # blocks the loop, and works
    (letter,) = await jobs.adead_letters()
    assert letter.task == "testing.rejecting"


# --- time


def test_a_retry_waits_for_its_time_and_the_last_one_ends_in_the_dead_letters(jobs: AppTester) -> None:
    job = failing.delay()

    first = jobs.run_until_empty()
    assert (first.retried, first.attempts) == (1, 1)
    assert [(error.attempt, error.message) for error in first.errors] == [(1, "no such mailbox")]
    waiting = jobs.assert_enqueued(failing)
    assert (waiting.id, waiting.state, waiting.attempt) == (job.id, "scheduled", 2)

    jobs.advance(59)
    assert jobs.run_until_empty() == Ran()
    jobs.advance(1)
    assert jobs.run_until_empty().retried == 1
    jobs.advance(timedelta(minutes=1))
    assert jobs.run_until_empty().dead == 1

    (letter,) = jobs.dead_letters()
    assert (letter.id, letter.reason, [error.attempt for error in letter.errors]) == (job.id, "failed", [1, 2, 3])
    assert "During handling" not in letter.failure.traceback
    assert jobs.enqueued() == []


def test_a_snooze_counts_as_one_and_costs_no_attempt(jobs: AppTester) -> None:
    patient.delay(2)

    for _ in range(2):
        assert jobs.run_until_empty() == Ran(snoozed=1)
        assert jobs.assert_enqueued(patient).attempt == 1
        jobs.advance(timedelta(hours=1))

    assert jobs.run_until_empty() == Ran(succeeded=1)


def test_a_job_for_later_waits_for_the_test(jobs: AppTester) -> None:
    add.options(delay=60).delay(1)
    add.options(at=datetime.now(UTC) + timedelta(days=1)).delay(2)

    soon, tomorrow = jobs.enqueued(add)
    now = datetime.fromtimestamp(jobs.clock.now(), UTC)
    assert soon.due is not None
    assert tomorrow.due is not None
    assert timedelta(seconds=59) < soon.due - now <= timedelta(seconds=60)
    assert timedelta(hours=23) < tomorrow.due - now <= timedelta(hours=24)

    assert jobs.run_until_empty() == Ran()
    jobs.advance(60)
    assert jobs.run_until_empty().succeeded == 1
    add.options(delay=60).delay(3)  # a minute from the test's time, however far that has gone
    assert jobs.run_until_empty() == Ran()
    jobs.advance(60)
    assert jobs.run_until_empty().succeeded == 1
    jobs.advance(timedelta(days=1))
    assert jobs.run_until_empty().succeeded == 1


def test_a_job_that_is_cancelled_or_comes_too_late_counts_as_that() -> None:
    expired: list[str] = []

    async def on_expired(job: JobContext) -> None:
        expired.append(job.id)

    app = Jetq(on_expired=on_expired)
    with in_memory(app) as jobs:

        @app.task(name="testing.note")
        async def note() -> None: ...

        late = note.options(expires=60).delay()
        jobs.advance(61)
        gone = note.options(delay=60).delay()
        assert gone.cancel() == "removed"
        assert jobs.run_until_empty() == Ran(expired=1)
        assert (late.status(), gone.status()) == ("expired", "cancelled")
        assert expired == [late.id]


def test_a_recurring_task_ticks_with_the_tests_clock() -> None:
    app = Jetq()
    with in_memory(app) as jobs:
        times: list[datetime | None] = []

        @app.task(name="testing.hourly", cron="0 * * * *")
        async def hourly() -> None:
            times.append(current_job().nominal)

        assert jobs.run_until_empty() == Ran()
        for _ in range(3):
            jobs.advance(3600)
            assert jobs.run_until_empty() == Ran(succeeded=1)
        assert len(set(times)) == 3
        assert all(at is not None and (at.minute, at.second) == (0, 0) for at in times)
        jobs.advance(timedelta(hours=10))
        assert jobs.run_until_empty() == Ran(succeeded=10)
        assert len(set(times)) == 13
        (info,) = app.schedules()
        assert (info.name, info.last) == ("testing.hourly", times[-1])
        assert app.unschedule("testing.hourly")


def test_schedules_tick_before_anything_has_run_too() -> None:
    app = Jetq()
    with in_memory(app) as jobs:
        times: list[datetime | None] = []

        @app.task(name="testing.daily", cron="0 4 * * *")
        async def daily(who: str = "all") -> None:
            times.append(current_job().nominal)

        app.schedule("testing.extra", daily.bind("some"), cron="30 4 * * *")
        jobs.advance(timedelta(days=1))
        assert jobs.run_until_empty() == Ran(succeeded=2)
        assert sorted((at.hour, at.minute) for at in times if at is not None) == [(4, 0), (4, 30)]
        jobs.advance(timedelta(days=1))
        assert jobs.run_until_empty() == Ran(succeeded=2)


@pytest.mark.anyio
async def test_schedules_tick_in_async_tests_too() -> None:
    app = Jetq()
    with in_memory(app) as jobs:

        @app.task(name="testing.often", every=60)
        async def often() -> None: ...

        jobs.advance(90)
        assert await jobs.arun_until_empty() == Ran(succeeded=1)


def test_ticks_that_may_not_overlap_make_one_job_while_it_waits() -> None:
    app = Jetq()
    with in_memory(app) as jobs:

        @app.task(name="testing.often", schedules=[Schedule(every=10, overlap="skip")])
        async def often() -> None: ...

        jobs.advance(timedelta(days=1))
        assert jobs.run_until_empty() == Ran(succeeded=1)
        jobs.advance(10)
        assert jobs.run_until_empty() == Ran(succeeded=1)


def test_more_ticks_than_attempts_of_jobs_that_make_jobs_all_run() -> None:
    app = Jetq()
    with in_memory(app) as jobs:

        @app.task(name="testing.often", every=1)
        async def often() -> None: ...

        jobs.advance(timedelta(hours=4))
        assert jobs.run_until_empty() == Ran(succeeded=4 * 3600)


def test_levels_are_kept_in_order() -> None:
    app = Jetq(queues=[Queue("mail", levels="strict")])
    with in_memory(app) as jobs:
        ran: list[str] = []

        @app.task(name="testing.level", queue="mail")
        async def level(name: str) -> None:
            ran.append(name)

        for name in ("low", "normal", "high"):
            level.options(priority=name).delay(name)
        assert jobs.run_until_empty() == Ran(succeeded=3)
        assert ran == ["high", "normal", "low"]


def test_limits_hold_and_rates_do_not() -> None:
    app = Jetq()
    inside: list[int] = []
    most = 0

    @app.task(limit=2, name="testing.limited")
    async def limited(n: int) -> None:
        nonlocal most
        inside.append(n)
        most = max(most, len(inside))
        await asyncio.sleep(0)
        inside.remove(n)

    @app.task(rate="1/h", name="testing.paced")
    async def paced() -> None: ...

    with in_memory(app) as jobs:
        limited.delay_many(limited.bind(n) for n in range(200))
        paced.delay_many(paced.bind() for _ in range(3))
        assert jobs.run_until_empty() == Ran(succeeded=203)
    assert most == 2


def test_what_is_told_to_come_later_waits_for_the_test() -> None:
    app = Jetq()
    refused: list[int] = []

    @app.task(name="testing.api")
    async def api(n: int) -> None:
        if not refused:
            refused.append(n)
            raise RateLimited(60)

    with in_memory(app) as jobs:
        api.delay(0)
        assert jobs.run_until_empty() == Ran(snoozed=1)
        api.delay(1)
        assert jobs.run_until_empty() == Ran(snoozed=1)
        jobs.advance(59)
        assert jobs.run_until_empty() == Ran()
        jobs.advance(2)
        assert jobs.run_until_empty() == Ran(succeeded=2)
        api.delay(2)
        assert jobs.run_until_empty() == Ran(succeeded=1)


def test_an_exception_reaches_the_caller(jobs: AppTester) -> None:
    job = add.options(max_attempts=1).delay(1)
    refused = rejecting.options(result_ttl=60).delay()

    jobs.run_until_empty()

    assert job.result(timeout=0.05) == 2
    with pytest.raises((Reject, TaskFailed), match="never"):
        refused.result(timeout=0.05)


def test_every_test_starts_from_nothing(jobs: AppTester) -> None:
    assert jobs.enqueued() == []
    assert jobs.dead_letters() == []
    assert abs(jobs.clock.now() - time.time()) < 5


def test_without_an_app_one_is_made_for_the_while() -> None:
    with in_memory() as jobs:
        assert default_app() is jobs.app
        add.delay(1)
        assert len(jobs.enqueued()) == 1

    mine = Jetq()  # not too late, as it would be after a `.delay()` with an app from the environment
    assert default_app() is mine


def test_an_app_made_in_a_test_is_the_default_afterwards() -> None:
    with in_memory() as jobs:
        mine = Jetq()
        assert default_app() is jobs.app

    assert default_app() is mine


def test_the_default_app_is_the_tested_one_for_the_while() -> None:
    first = Jetq()
    with in_memory() as jobs:
        assert jobs.app is first

    mine = Jetq(namespace="mine")
    kept = mine.session, mine.client

    with in_memory(mine) as jobs:
        assert default_app() is mine
        assert jobs.app is mine
        add.delay(1)
        assert len(jobs.enqueued()) == 1

    assert (mine.session, mine.client) == kept
    assert default_app() is first


def test_an_app_of_its_own_is_tested_with_its_middleware_and_lifespan() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Jetq) -> AsyncIterator[None]:
        seen.append("up")
        yield
        seen.append("down")

    async def around(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append(job.task)
        return await call_next()

    mine = Jetq(middleware=[around], lifespan=lifespan)

    @mine.task(name="testing.own")
    async def own() -> int:
        return 7

    with in_memory(mine) as jobs:
        job = own.delay()
        jobs.run_until_empty()
        assert job.result(timeout=0.05) == 7

    assert seen == ["up", "testing.own", "down"]


def test_nothing_is_left_running() -> None:
    before = set(threading.enumerate())

    for _ in range(3):
        with in_memory() as jobs:
            add.delay(1)
            jobs.run_until_empty()

    deadline = time.monotonic() + 10
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
