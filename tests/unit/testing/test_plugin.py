"""`jetq.testing`: what users' tests can see of their jobs, and run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import jetq.client.app as app_module
from jetq import (
    ArgumentError,
    Jetq,
    JobContext,
    Queue,
    RateLimited,
    Reject,
    ResultTimeout,
    Schedule,
    Snooze,
    TaskFailed,
    current_job,
    default_app,
    task,
)
from jetq.client.default_app import DefaultApp
from jetq.testing import AppTester, Ran, in_memory

RAN: list[str] = []


@task(name="testing.add")
async def add(x: int, y: int = 1) -> int:
    return x + y


@task(name="testing.book", queue="travel")
def book(day: date, *guests: str, **extras: int) -> None:
    RAN.append(f"{day:%d.%m.} {', '.join(guests)} {extras}")


@task(name="testing.failing", max_attempts=3, wait=60)
def failing() -> None:
    raise ValueError("no such mailbox")


@task(name="testing.rejecting")
async def rejecting() -> None:
    raise Reject("never")


@task(name="testing.patient")
async def patient(until: int) -> None:
    if len(RAN) < until:
        RAN.append(current_job().id)
        raise Snooze(3600)


@task(name="testing.parent")
async def parent(children: int) -> None:
    for child in range(children):
        await add.adelay(child)


@task(name="testing.calling")
async def calling_without_await() -> None:
    add.delay(1)


@task(name="testing.forever")
async def forever() -> None:
    await forever.adelay()


@pytest.fixture(autouse=True)
def no_app_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: no app was made, and what a test makes is gone after it."""
    monkeypatch.setattr(app_module, "_default", DefaultApp(app_module.Jetq))


@pytest.fixture
def jobs() -> Iterator[AppTester]:
    RAN.clear()
    with in_memory() as tester:
        yield tester


# --- running


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


# --- looking


def test_what_is_enqueued_can_be_asserted(jobs: AppTester) -> None:
    add.delay(1)
    add.delay(2, y=5)
    book.delay(date(2026, 12, 24), "Ada", nights=3)

    assert jobs.assert_enqueued(add).arguments == {"x": 1, "y": 1}
    assert jobs.assert_enqueued(add, y=5).arguments == {"x": 2, "y": 5}
    assert jobs.assert_enqueued("testing.add", x=1, y=1).queue == "default"
    booked = jobs.assert_enqueued(book, day=date(2026, 12, 24), guests=("Ada",), extras={"nights": 3})
    assert (booked.queue, booked.due, booked.state) == ("travel", None, "queued")
    jobs.assert_not_enqueued(add, x=3)
    jobs.assert_not_enqueued(failing)
    assert [job.arguments["x"] for job in jobs.enqueued(add)] == [1, 2]
    assert len(jobs.enqueued()) == 3
    assert len(jobs.enqueued(y=5)) == 1


def test_a_failed_assertion_says_what_is_there(jobs: AppTester) -> None:
    with pytest.raises(AssertionError, match=r"no job testing\.add\(\) is enqueued; enqueued:\n  nothing"):
        jobs.assert_enqueued(add)
    add.delay(1)

    with pytest.raises(AssertionError, match=r"add\(x=2\) is enqueued; enqueued:\n  testing\.add\(x=1, y=1\) in queue"):
        jobs.assert_enqueued(add, x=2)
    with pytest.raises(AssertionError, match=r"enqueued: testing\.add\(x=1, y=1\)"):
        jobs.assert_not_enqueued(add, x=1)
    with pytest.raises(ArgumentError, match=r"testing\.add\(x: int, y: int = 1\) -> int has no parameter 'z'"):
        jobs.assert_not_enqueued(add, z=1)


def test_jobs_sent_without_their_code_are_seen_as_json(jobs: AppTester) -> None:
    jobs.app.send("billing.charge", {"amount": 3}, queue="billing")

    job = jobs.assert_enqueued("billing.charge", amount=3)

    assert (job.queue, job.arguments) == ("billing", {"amount": 3})


# --- apps


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


# --- as pytest users have it


USERS_TESTS = """
import pytest
from jetq import Jetq, Retry, task

@task(wait=0)
async def add(x: int, y: int) -> int:
    return x + y

@task(wait=0, max_attempts=2, result_ttl=60)
def fail() -> None:
    raise KeyError("k")

def test_in_memory(jetq_app):
    job = add.delay(2, 3)
    jetq_app.assert_enqueued(add, x=2)
    assert jetq_app.run_until_empty().succeeded == 1
    assert job.result(timeout=1) == 5

def test_in_memory_again(jetq_app):
    assert jetq_app.enqueued() == []

@pytest.mark.anyio
async def test_in_memory_async(jetq_app):
    job = await add.adelay(2, 3)
    assert (await jetq_app.arun_until_empty()).succeeded == 1
    assert await job.aresult(timeout=1) == 5

def test_on_a_real_server(jetq_app_real):
    job, bad = add.delay(2, 3), fail.delay()
    ran = jetq_app_real.run_until_empty()
    assert (ran.succeeded, ran.retried, ran.dead) == (1, 1, 1), ran
    assert job.result(timeout=5) == 5
    with pytest.raises(KeyError):
        bad.result(timeout=5)
    assert [letter.id for letter in jetq_app_real.dead_letters()] == [bad.id]

@pytest.mark.anyio
async def test_on_a_real_server_async(jetq_app_real):
    assert await jetq_app_real.adead_letters() == []
    job = await add.adelay(2, 3)
    assert (await jetq_app_real.arun_until_empty()).succeeded == 1
    assert await job.aresult(timeout=5) == 5

def test_the_url(jetq_server):
    assert jetq_server.url.startswith("nats://127.0.0.1:")

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_the_fixtures_in_a_users_project(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    root = str(Path(__file__).parents[3])
    plugins = ["-p", "jetq.testing.plugin", "-p", "anyio"]

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "6 passed" in ended.stdout


def test_a_run_without_the_fixtures_does_not_import_nats() -> None:
    code = "import sys, jetq.testing.plugin; print('nats' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)

    assert ended.stdout.strip() == "False"
