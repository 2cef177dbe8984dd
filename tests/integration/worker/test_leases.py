"""While its worker lives, a job is not delivered again, however long it runs and whatever it does to the loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from jetq import current_job
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio

ACK_WAIT = 1.0


@pytest.mark.parametrize(
    "kind", ["blocking", pytest.param("async", marks=pytest.mark.slow), pytest.param("thread", marks=pytest.mark.slow)]
)
async def test_a_job_three_times_as_long_as_the_lease_runs_once(kind: str, nats_url: str) -> None:
    app = fresh_app(nats_url, ack_wait=ACK_WAIT)
    runs: list[str] = []

    @app.task(name="long.async")
    async def sleeps() -> str:
        runs.append(current_job().id)
        await asyncio.sleep(3 * ACK_WAIT)
        return "done"

    @app.task(name="long.blocking")
    async def blocks() -> str:
        runs.append(current_job().id)
        time.sleep(3 * ACK_WAIT)
        return "done"

    @app.task(name="long.thread")
    def sleeps_in_a_thread() -> str:
        runs.append(current_job().id)
        time.sleep(3 * ACK_WAIT)
        return "done"

    async with working(app), working(app):
        job = await app.asend(f"long.{kind}")
        assert await job.aresult(timeout=20) == "done"
        await stays_so_for(1.5 * ACK_WAIT, lambda: runs == [job.id])  # a lease that had lapsed would bring it back
        broker = await app.session.broker()
        info = next(info for info in await broker.queues() if info.name == "default")
        assert (info.ready, info.running, info.dead) == (0, 0, 0)


@pytest.mark.slow
async def test_jobs_delivered_while_the_loop_was_blocked_are_run_once(nats_url: str) -> None:
    app = fresh_app(nats_url, ack_wait=ACK_WAIT)
    runs: list[int] = []

    @app.task(name="block")
    async def block() -> None:
        time.sleep(2.5 * ACK_WAIT)

    @app.task(name="count")
    async def count(n: int) -> int:
        runs.append(n)
        return n

    async with working(app, concurrency=20):
        await block.adelay()
        jobs = await app.adelay_many(count.bind(n) for n in range(50))
        assert [await job.aresult(timeout=20) for job in jobs] == list(range(50))
        await asyncio.sleep(1.5 * ACK_WAIT)
    # What reached the process during the block lapsed before it could be started: it is left to run elsewhere or later,
    # and never runs on a lapsed lease, so nothing runs twice.
    assert sorted(runs) == list(range(50))
