"""A purge beneath a job that runs: its worker has it all the same, and who waits for its result gets it."""

from __future__ import annotations

import asyncio

import pytest

from jetq.errors import ResultExpired, ResultTimeout
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


async def test_who_waits_for_a_job_that_was_purged_as_it_ran_gets_its_result(nats_url: str) -> None:
    """Guarantee: that a result is gone is said only when nobody has the job any more."""
    app = fresh_app(nats_url)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.task(name="slow")
    async def slow(n: int) -> int:
        begun.set()
        await go_on.wait()
        return n

    async with working(app):
        job = await slow.adelay(7)
        await begun.wait()
        await (await app.session.broker()).purge("default")
        waiting = asyncio.create_task(job.aresult(timeout=40))
        with pytest.raises(ResultTimeout, match="is still running after"):
            await job.aresult(timeout=1.5)
        assert not waiting.done()
        assert (await job.ainfo()).state == "running"
        go_on.set()
        assert await waiting == 7


async def test_who_waits_for_one_that_was_purged_before_it_ran_is_told(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="slow", queue="nobodys")
    async def slow(n: int) -> int:
        return n

    job = await slow.adelay(7)
    await (await app.session.broker()).purge("nobodys")
    with pytest.raises(ResultExpired, match="or it was purged"):
        await job.aresult(timeout=40)
    await app.session.aclose()
