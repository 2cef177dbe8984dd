"""Attempts: how many, when, and what is left of them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from tenacity import wait_exponential

from jetq import Reject, Retry, Snooze, TaskFailed, Worker, current_job
from jetq.broker import Broker
from jetq.model.queue_info import QueueInfo
from jetq.operations.dead_letters import replay
from tests.apps.working import fresh_app, until, working

pytestmark = pytest.mark.anyio


async def _acked(broker: Broker, id: str) -> None:
    """The result is pushed a moment before the job is removed, and a job that stands is not replayed."""
    async with asyncio.timeout(10):
        while await broker.find("default", id) is not None:
            await asyncio.sleep(0.01)


async def test_an_always_failing_task_runs_max_attempts_times_with_growing_delays(nats_url: str) -> None:
    app = fresh_app(nats_url)
    starts: list[tuple[int, float]] = []

    @app.task(name="fails", max_attempts=4, wait=wait_exponential(multiplier=0.3))
    async def fails(secret: str) -> int:
        starts.append((current_job().attempt, time.time()))
        raise ValueError(f"attempt {current_job().attempt}")

    async with working(app):
        job = await fails.adelay("x")
        with pytest.raises(ValueError, match="attempt 4") as caught:
            await job.aresult(timeout=20)
        assert "in fails" in str(caught.value.__cause__)
        broker = await app.session.broker()
        (entry,) = await broker.dead("default")
    assert [attempt for attempt, _ in starts] == [1, 2, 3, 4]
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(starts)]
    for gap, due in zip(gaps, [0.3, 0.6, 1.2], strict=True):
        assert gap >= due  # never early
    letter = entry.letter
    assert (letter.id, letter.reason, letter.attempt) == (job.id, "failed", 4)
    assert [(error.attempt, error.message) for error in letter.errors] == [(n, f"attempt {n}") for n in (1, 2, 3, 4)]
    assert entry.body == b'{"secret":"x"}'


async def test_retries_that_wait_hold_nothing_and_keep_no_fresh_job_waiting(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="fails", wait=600.0)
    async def fails() -> None:
        raise ValueError("no")

    @app.task(name="fresh")
    async def fresh() -> int:
        return 1

    async with working(app, concurrency=2):
        await app.adelay_many(fails.bind() for _ in range(100))
        broker = await app.session.broker()
        async with asyncio.timeout(15):
            while _counts(await _default_queue(broker)) != (0, 0, 100, 0):  # read one by one, so wrong in between
                await asyncio.sleep(0.02)
        assert await (await fresh.adelay()).aresult(timeout=5) == 1


def _counts(info: QueueInfo) -> tuple[int, int, int, int]:
    return info.ready, info.running, info.scheduled, info.dead


async def _default_queue(broker: Broker) -> QueueInfo:
    """Other tests' tasks may have queues of their own, which the worker makes too."""
    return next(info for info in await broker.queues() if info.name == "default")


async def test_five_snoozes_in_a_row_burn_no_attempt_and_lose_nothing(nats_url: str) -> None:
    app = fresh_app(nats_url)
    seen: list[int] = []

    @app.task(name="snoozes")
    async def snoozes() -> int:
        seen.append(current_job().attempt)
        if len(seen) <= 5:
            raise Snooze(0.1)
        return len(seen)

    async with working(app):
        job = await snoozes.adelay()
        assert await job.aresult(timeout=20) == 6
    assert seen == [1] * 6


async def test_a_replayed_job_retries_and_dies_again_and_is_never_lost(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="dies", max_attempts=2, wait=0.05)
    async def dies() -> int:
        ran.append(current_job().attempt)
        raise ConnectionError("still down")

    async with working(app):
        job = await dies.adelay()
        broker = await app.session.broker()
        for round in range(1, 4):
            with pytest.raises(ConnectionError):
                await job.aresult(timeout=20)
            (entry,) = await broker.dead("default")
            assert (entry.letter.id, entry.letter.replays) == (job.id, round - 1)
            assert ran == [1, 2] * round
            if round < 3:
                await _acked(broker, job.id)
                assert await replay(broker, [entry]) == (1, [])


async def test_retry_with_new_arguments_and_reject(nats_url: str) -> None:
    app = fresh_app(nats_url)
    seen: list[list[str]] = []

    @app.task(name="mail")
    async def mail(to: list[str]) -> int:
        seen.append(to)
        if len(to) > 1:
            raise Retry(0.0, arguments={"to": to[1:]})
        if to == ["bad"]:
            raise Reject("no such mailbox")
        return len(seen)

    async with working(app):
        assert await (await mail.adelay(["a", "b", "c"])).aresult(timeout=20) == 3
        assert seen == [["a", "b", "c"], ["b", "c"], ["c"]]
        job = await mail.adelay(["bad"])
        with pytest.raises((Reject, TaskFailed), match="no such mailbox"):
            await job.aresult(timeout=20)
        broker = await app.session.broker()
        (entry,) = await broker.dead("default")
        assert entry.letter.reason == "rejected"


async def test_a_delayed_job_is_not_early_by_the_servers_clock(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="later")
    async def later() -> float:
        return current_job().enqueued_at.timestamp()

    async with working(app):
        called = time.time()
        at = datetime.now(UTC) + timedelta(seconds=0.8)
        by_delay = await later.options(delay=0.5).adelay()
        by_time = await later.options(at=at).adelay()
        past = await later.options(at=datetime.now(UTC) - timedelta(days=1)).adelay()
        assert called <= await past.aresult(timeout=20)
        broker = await app.session.broker()
        for job in (by_delay, by_time):
            assert called <= await job.aresult(timeout=20) <= called + 0.4  # the enqueue's time, not the firing's
            await _acked(broker, job.id)  # the push may come before the store: what is acked is stored
            result = await broker.get_result(job.queue, job.id)
            assert result is not None
            assert result.at >= called + 0.5


async def test_a_job_is_given_back_with_what_it_asks_for_as_its_worker_ends(nats_url: str) -> None:
    """Guarantee: a job that is cancelled by the end of its worker can keep what it has done, at no attempt."""
    app = fresh_app(nats_url)
    seen: list[tuple[int, list[str], str]] = []

    @app.task(name="sends", max_attempts=1)
    async def sends(to: list[str], text: str) -> None:
        seen.append((current_job().attempt, to, text))
        try:
            await asyncio.sleep(600 if len(to) > 1 else 0)
        except asyncio.CancelledError:
            raise Retry(arguments={"to": to[1:]}) from None

    worker = Worker(app, grace=0.0)
    running = asyncio.create_task(worker.run())
    job = await sends.adelay(["a", "b"], "hello")
    await until(lambda: seen)
    worker.stop()
    await running
    async with working(app):
        await job.await_(timeout=20)
    assert seen == [(1, ["a", "b"], "hello"), (1, ["b"], "hello")]


async def test_arguments_that_cannot_be_are_a_mistake_as_the_worker_ends_too(nats_url: str) -> None:
    app, began = fresh_app(nats_url), asyncio.Event()

    @app.task(name="sends")
    async def sends(to: list[str]) -> None:
        began.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            raise Retry(arguments={"whom": "b"}) from None

    worker = Worker(app, grace=0.0)
    running = asyncio.create_task(worker.run())
    await sends.adelay(["a"])
    await began.wait()
    worker.stop()
    await running
    (entry,) = await (await app.session.broker()).dead("default")
    await app.session.aclose()
    assert entry.letter.reason == "bad-arguments"
