"""Debounce and throttle: of many calls one job, when it runs and which arguments it runs with."""

from __future__ import annotations

import asyncio
import time

import pytest

from jetq import JobExpired, PayloadTooLarge
from tests.apps.working import fresh_app, settled, working
from tests.integration.enqueueing.unique_keys import _gone, _one_new

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_of_debounced_calls_the_last_arguments_run_once_at_the_last_due_time(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[tuple[str, int, float]] = []

    @app.task(name="index", key="{page}")
    async def index(page: str, n: int) -> int:
        ran.append((page, n, time.time()))
        return n

    debounced = index.options(delay=2.4, replace=True)
    async with working(app):
        jobs, last = [await debounced.adelay("p", 0)], 0.0
        for n in range(1, 4):
            await asyncio.sleep(0.2)
            last = time.time()
            jobs.append(await debounced.adelay("p", n))
        assert [job.disposition for job in jobs] == ["new", "replaced", "replaced", "replaced"]
        assert len({job.id for job in jobs}) == 1
        assert await jobs[0].aresult() == 3
        await settled(app)
        await asyncio.sleep(0.5)
        ((page, n, at),) = ran
        assert (page, n) == ("p", 3)
        assert at >= last + 2.4
        assert (await debounced.adelay("p", 4)).disposition == "new"
        assert (await index.options(replace=True).adelay("p", 5)).disposition in ("replaced", "existing")
        await settled(app)


async def test_max_wait_bounds_the_first_call_too(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="index", key="k")
    async def index() -> None: ...

    debounced = index.options(delay=600, replace=True, max_wait=60)
    before = time.time()
    for disposition in ("new", "replaced", "replaced"):
        job = await debounced.adelay()
        assert job.disposition == disposition
        due = (await job.ainfo()).due
        assert due is not None and before + 59.9 <= due <= time.time() + 60.1, disposition
    await app.session.aclose()


@pytest.mark.slow
async def test_a_debounced_job_expires_counted_from_the_due_time_it_has(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="index", key="k", expires=0.5)
    async def index(n: int) -> int:
        ran.append(n)
        return n

    debounced = index.options(delay=600, replace=True, max_wait=2.5)
    await debounced.adelay(0)
    job = await debounced.adelay(1)
    async with asyncio.timeout(10):
        while await job.astatus() != "queued":
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.7)
    async with working(app):
        with pytest.raises(JobExpired):
            await job.aresult()
    assert ran == []


async def test_what_runs_or_is_due_in_a_moment_is_not_replaced(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started, go_on = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @app.task(name="index", key="k")
    async def index(n: int) -> int:
        ran.append(n)
        started.set()
        await go_on.wait()
        return n

    async with working(app, grace=1):
        first = await index.options(delay=1.0).adelay(1)
        debounced = index.options(delay=60, replace=True)
        assert [(job.id, job.disposition) for job in [await debounced.adelay(2)]] == [(first.id, "existing")]
        async with asyncio.timeout(10):
            await started.wait()
        running = await debounced.adelay(3)
        assert (running.id, running.disposition) == (first.id, "existing")
        go_on.set()
        assert await running.aresult() == 1
        await _gone(app, first.id)
        after = await debounced.adelay(4)
        assert after.disposition == "new"
        assert await after.acancel() == "removed"
    assert ran == [1]


# --- throttle


async def test_a_throttled_key_has_one_job_per_period_also_when_it_is_finished(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="ping", key="k")
    async def ping(n: int) -> int:
        ran.append(n)
        return n

    throttled = ping.options(throttle=2)
    async with working(app):
        jobs = await asyncio.gather(*(throttled.adelay(n) for n in range(10)))
        id = _one_new(list(jobs))
        first = await jobs[0].aresult()
        await _gone(app, id)
        late = await throttled.adelay(99)
        assert (late.id, late.disposition) == (id, "existing")
        assert await late.aresult() == first
        async with asyncio.timeout(15):
            while (job := await throttled.adelay(100)).disposition != "new":
                assert job.id == id
                await asyncio.sleep(0.1)
        assert await job.aresult() == 100
        (again,) = await app.adelay_many([throttled.bind(101)])
        assert (again.id, again.disposition) == (job.id, "existing")
        await settled(app)
    assert ran == [first, 100]


async def test_a_rejected_job_gives_its_period_back(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="ping", key="k")
    async def ping(text: str) -> None: ...

    throttled = ping.options(throttle=60)
    with pytest.raises(PayloadTooLarge):
        await throttled.adelay("x" * 1_100_000)
    assert (await throttled.adelay("small")).disposition == "new"
    assert (await throttled.adelay("small")).disposition == "existing"
    await app.session.aclose()


async def test_in_a_new_period_while_the_job_of_an_earlier_one_stands_every_handle_is_of_that_job(
    nats_url: str,
) -> None:
    app = fresh_app(nats_url)

    @app.task(name="ping", key="k")
    async def ping() -> None: ...

    standing = await ping.options(delay=600).adelay()
    for _ in range(3):
        job = await ping.options(throttle=60).adelay()
        assert (job.id, job.disposition) == (standing.id, "existing")
    await app.session.aclose()
