"""Levels of a queue, strict and weighted, and weights of queues."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from jetq import DefinitionError, Jetq, Queue, Worker, current_job
from jetq.operations.dead_letters import replay
from jetq.worker.round_robin import WeightedRoundRobin
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, share, until, working

pytestmark = pytest.mark.anyio


def _noting(app: Jetq, started: list[str], seconds: float = 0.001, **options: Any) -> Any:
    @app.task(name="note", queue="mail", **options)
    async def note(what: str) -> None:
        started.append(what)
        await asyncio.sleep(seconds)

    return note


async def _enqueue(app: Jetq, note: Any, **counts: int) -> None:
    for level, count in counts.items():
        await app.adelay_many(note.options(priority=level).bind(level) for _ in range(count))


@pytest.mark.parametrize("concurrency", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.timeout(180)
async def test_strict_no_low_job_starts_before_the_last_high_one(nats_url: str, concurrency: int) -> None:
    app = fresh_app(nats_url, queues=[Queue("mail", levels="strict")])
    started: list[str] = []
    note = _noting(app, started)
    await _enqueue(app, note, low=2000, normal=100, high=200)
    async with working(app, concurrency=concurrency):
        await until(lambda: len(started) == 2300, timeout=150)
    assert started == ["high"] * 200 + ["normal"] * 100 + ["low"] * 2000


async def test_strict_over_two_workers_and_what_comes_later_goes_first(nats_url: str) -> None:
    app = fresh_app(nats_url, queues=[Queue("mail", levels="strict")])
    started: list[str] = []
    note = _noting(app, started, seconds=0.01)
    await _enqueue(app, note, low=600, high=200)
    other = Jetq(nats_url, namespace=app.settings.namespace)  # it says nothing of levels, and finds them
    share(other, note)
    async with working(app, concurrency=5), working(other, concurrency=5):
        await until(lambda: started.count("low") >= 50)
        assert "low" not in started[:200]
        await _enqueue(app, note, high=100)
        late = len(started)
        await until(lambda: len(started) == 900)
    # What had started or was on its way to a slot by then is before them, and nothing else.
    last = max(place for place, what in enumerate(started) if what == "high")
    assert started[late : last + 1].count("low") <= 20


async def test_weighted_levels_start_in_proportion(nats_url: str) -> None:
    app = fresh_app(nats_url, queues=[Queue("mail", levels={"high": 3, "low": 1})])
    started: list[str] = []
    note = _noting(app, started, seconds=0.002)
    await _enqueue(app, note, low=600, high=600)
    async with working(app, concurrency=10):
        await until(lambda: len(started) == 1200)
    while_both = started[: max(place for place, what in enumerate(started) if what == "high") + 1]
    counts = Counter(while_both)
    assert counts["high"] == 600
    assert 180 <= counts["low"] <= 220


async def test_a_level_survives_a_retry_a_delay_a_dead_letter_and_a_give_back(nats_url: str) -> None:
    app = fresh_app(nats_url, queues=[Queue("mail", levels="strict")])
    seen: list[int] = []

    @app.task(name="fails", queue="mail", max_attempts=2, wait=0.5, priority="high")
    async def fails() -> None:
        seen.append(current_job().attempt)
        raise ValueError

    broker = await app.session.broker()
    job = await fails.options(delay=0.5).adelay()
    found = await broker.find("mail", job.id)
    assert found is not None and found.delivery.level == "high"
    async with working(app):
        await until(lambda: len(seen) == 1)
        async with asyncio.timeout(10):
            while (found := await broker.find("mail", job.id)) is None or found.state != "scheduled":
                await asyncio.sleep(0.01)
        assert found.delivery.level == "high"
        async with asyncio.timeout(10):
            while not (dead := await broker.dead("mail", id=job.id)):
                await asyncio.sleep(0.02)
            while await broker.find("mail", job.id) is not None:
                await asyncio.sleep(0.02)
    assert dead[0].letter.level == "high"
    broker = await app.session.broker()
    assert await replay(broker, dead) == (1, [])
    found = await broker.find("mail", job.id)
    assert found is not None and (found.delivery.level, found.state) == ("high", "queued")
    await app.session.aclose()


async def test_pause_and_numbers_are_of_all_levels(nats_url: str) -> None:
    app = fresh_app(nats_url, queues=[Queue("mail", levels="strict")])
    started: list[str] = []
    note = _noting(app, started)
    broker = await app.session.broker()
    await _enqueue(app, note, low=1, normal=1, high=1)
    (info,) = await broker.queues()
    assert (info.ready, info.scheduled, info.running) == (3, 0, 0)
    await broker.pause("mail")
    async with working(app):
        await stays_so_for(1.0, lambda: started == [])
        await broker.resume("mail")
        await until(lambda: len(started) == 3)
    assert started[0] == "high"


async def test_a_key_is_unique_over_the_levels(nats_url: str) -> None:
    app = fresh_app(nats_url, queues=[Queue("mail", levels="strict")])
    note = _noting(app, [])
    first = await note.options(key="k", priority="low").adelay("a")
    second = await note.options(key="k", priority="high").adelay("b")
    assert (second.id, second.disposition) == (first.id, "existing")
    assert await first.acancel() == "removed"
    await app.session.aclose()


async def test_a_priority_needs_levels_and_levels_are_checked(nats_url: str) -> None:
    app = fresh_app(nats_url, queues=[Queue("other", levels="strict")])
    note = _noting(app, [])
    with pytest.raises(DefinitionError, match="queue 'mail' has no levels"):
        await note.options(priority="high").adelay("x")
    await note.options(priority="normal").adelay("x")
    both: list[tuple[Any, str]] = [(["mail"], "queues takes Queue"), ([Queue("a"), Queue("a")], "declared twice")]
    for queues, sentence in both:
        with pytest.raises(DefinitionError, match=sentence):
            Jetq(nats_url, queues=queues)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": "No"}, "queue 'No' is not allowed"),
        ({"levels": "loose"}, "levels is 'strict' or weights"),
        ({"levels": {"urgent": 2}}, "priority is 'high', 'normal' or 'low'"),
        ({"levels": {"high": 0}}, "level high is a whole number from 1"),
        ({"weight": 0}, "weight of queue a is a whole number from 1"),
    ]
    for keywords, sentence in wrong:
        with pytest.raises(DefinitionError, match=sentence):
            Queue(**{"name": "a", **keywords})
    await app.session.aclose()


@pytest.mark.slow
async def test_queues_share_the_slots_by_weight(nats_url: str) -> None:
    app = fresh_app(nats_url)
    started: list[str] = []
    for name in ("mail", "reports"):

        @app.task(name=name, queue=name)
        async def note(what: str) -> None:
            started.append(what)
            await asyncio.sleep(0.01)

        await app.adelay_many(note.bind(name) for _ in range(600))
    async with working(app, queues={"mail": 3, "reports": 1}, concurrency=8):
        await until(lambda: len(started) == 1200)
    counts = Counter(started[:600])
    assert counts["mail"] > 2 * counts["reports"]
    with pytest.raises(DefinitionError, match="weight of queue mail"):
        Worker(app, queues={"mail": 0})


def test_turns_are_smooth_and_pay_what_they_owe() -> None:
    turns = WeightedRoundRobin([3, 1])
    assert "".join(str(turns.pick([0, 1])) for _ in range(8)) == "00100010"
    turns = WeightedRoundRobin([3, 1])
    assert [turns.pick([1], owed=[0]) for _ in range(2)] == [1, 1]
    assert [turns.pick([0, 1]) for _ in range(6)].count(0) >= 5
