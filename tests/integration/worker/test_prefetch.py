"""A worker that runs short jobs asks for some ahead, and keeps none of them from other workers."""

from __future__ import annotations

import asyncio

import pytest

from jetq import Jetq, current_job
from jetq.worker import prefetch
from tests.apps.working import fresh_app, run_of, settled, until, working

pytestmark = pytest.mark.anyio

SLOTS = 4


async def test_jobs_that_would_wait_behind_long_ones_are_given_back_uncharged(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: what was asked for while jobs were short does not wait for the end of long ones."""
    monkeypatch.setattr(
        prefetch, "_TYPICAL_ROUND_TRIP", 0.1
    )  # a long round trip, so that some are asked for on slow machines too
    monkeypatch.setattr(prefetch.Prefetch, "answered", lambda self, now: None)
    app = fresh_app(nats_url)
    long_enough = asyncio.Event()
    held: list[int] = []
    waiting: list[int] = []
    short: list[tuple[int, int, str]] = []

    def define(app: Jetq) -> Jetq:
        @app.task(name="long")
        async def long(n: int) -> None:
            held.append(n)
            intake = run_of(worker).intake
            waiting.append(len(intake) + sum(feed.asked for feed in intake.feeds))
            await long_enough.wait()

        @app.task(name="short")
        async def quick(n: int) -> None:
            job = current_job()
            short.append((n, job.attempt, job.worker))

        return app

    define(app)
    other = define(Jetq(nats_url, namespace=app.settings.namespace))
    await app.adelay_many([app.tasks["short"].bind(n) for n in range(4000)])
    await app.adelay_many([app.tasks["long"].bind(n) for n in range(SLOTS)])
    await app.adelay_many([app.tasks["short"].bind(n) for n in range(4000, 4100)])
    async with working(app, concurrency=SLOTS) as worker:
        await until(lambda: len(held) == SLOTS)
        assert waiting[-1] > 0, "nothing was asked for ahead"
        async with working(other, concurrency=SLOTS):
            await until(lambda: len(short) == 4100)
            long_enough.set()
            await settled(app)
    assert sorted(n for n, _, _ in short) == list(range(4100))
    assert {attempt for _, attempt, _ in short} == {1}
