"""`unique="running"`: while one job of a key runs, one more may be queued."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from jetq import Snooze, current_job
from tests.apps.wire import Wire
from tests.apps.working import fresh_app, settled, until, working
from tests.integration.enqueueing.unique_keys import _another, _one_new

pytestmark = pytest.mark.anyio


class Runs:
    """What ran, in order, and who is inside now; nobody ends before `open` is set."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.inside = self.most = 0
        self.open = asyncio.Event()

    async def run(self, n: int) -> None:
        self.started.append(n)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1


async def test_while_one_runs_one_more_may_be_queued_and_runs_when_it_has_ended(nats_url: str) -> None:
    app, runs = fresh_app(nats_url), Runs()
    apps = [app, *(_another(app) for _ in range(3))]
    tasks = [each.task(name="index", key="doc:{doc}", unique="running")(_index(runs)) for each in apps]
    async with working(app), working(apps[1]):
        first = await tasks[0].adelay(0, doc=7)
        await until(lambda: runs.started == [0])
        jobs = await asyncio.gather(*(tasks[n % 4].adelay(n, doc=7) for n in range(1, 51)))
        second = _one_new(list(jobs))
        assert second != first.id
        await asyncio.sleep(0.3)  # it was handed to a worker by now, where it waits
        third = await tasks[2].adelay(51, doc=7)
        assert (third.id, third.disposition) == (second, "existing")
        assert len(runs.started) == 1
        other = await tasks[3].adelay(100, doc=8)
        await until(lambda: 100 in runs.started)
        runs.open.set()
        await other.aresult()
        await third.aresult()
        await settled(app)
    assert len(runs.started) == 3
    for each in apps[2:]:
        await each.session.aclose()


def _index(runs: Runs) -> Callable[..., Coroutine[Any, Any, int]]:
    async def index(n: int, doc: int) -> int:
        await runs.run(n)
        return n

    return index


async def test_one_that_waits_is_still_the_only_one(nats_url: str) -> None:
    app, runs = fresh_app(nats_url), Runs()
    index = app.task(name="index", key="doc:{doc}", unique="running")(_index(runs))
    later = await index.options(delay=60).adelay(0, doc=1)
    again = await index.adelay(1, doc=1)
    assert (again.id, again.disposition) == (later.id, "existing")
    moved = await index.options(delay=30, replace=True).adelay(2, doc=1)
    assert (moved.id, moved.disposition) == (later.id, "replaced")
    ready = await index.adelay(3, doc=2)
    again = await index.adelay(4, doc=2)
    assert (again.id, again.disposition) == (ready.id, "existing")
    await app.session.aclose()


async def test_the_retry_of_the_first_is_not_lost_to_the_second(nats_url: str) -> None:
    app = fresh_app(nats_url)
    seen: list[tuple[int, int]] = []
    go = asyncio.Event()

    @app.task(name="index", key="one", unique="running", wait=0.5, max_attempts=2)
    async def index(n: int) -> int:
        seen.append((n, current_job().attempt))
        await go.wait()
        if n == 0 and current_job().attempt == 1:
            raise ConnectionError
        return n

    async with working(app):
        first = await index.adelay(0)
        await until(lambda: seen)
        second = await index.adelay(1)
        assert second.disposition == "new"
        go.set()
        assert await second.aresult() == 1
        assert await first.aresult() == 0
        await settled(app)
    assert sorted(seen) == [(0, 1), (0, 2), (1, 1)]


async def test_of_two_of_a_key_that_no_producer_stored_neither_is_lost(nats_url: str) -> None:
    """Guarantee: what stands beside a job never makes its next attempt vanish."""
    app = fresh_app(nats_url)
    ran: list[tuple[str, int]] = []

    @app.task(name="index", key="one", wait=0.5, max_attempts=2)
    async def index(n: int) -> None:
        ran.append((current_job().id, current_job().attempt))
        if current_job().attempt == 1:
            await until(lambda: len(ran) >= 2)  # both of them are handed out, so the other one is stored
            raise ConnectionError

    await (await app.session.broker()).setup("default")
    wire = await Wire.open(nats_url)
    for id in ("earlier~k", "later~k"):
        stored = await wire.store(f"{app.settings.namespace}.default.run.index.k.{id}".encode(), None, b'{"n":1}')
        assert stored.sequence
    await wire.close()
    async with working(app):
        await until(lambda: len(ran) == 4)
        await settled(app)
    assert sorted(ran) == [("earlier~k", 1), ("earlier~k", 2), ("later~k", 1), ("later~k", 2)]


@pytest.mark.parametrize("end", ["snooze", "dead", "cancelled", "given back"])
async def test_however_the_first_ends_the_second_runs(nats_url: str, end: str) -> None:
    app = fresh_app(nats_url)
    seen: list[int] = []
    go = asyncio.Event()

    @app.task(name="index", key="one", unique="running", max_attempts=1)
    async def index(n: int) -> int:
        seen.append(n)
        await go.wait()
        if n == 0 and seen.count(0) == 1:
            if end == "snooze":
                raise Snooze(0.3)
            if end == "dead":
                raise ValueError
        return n

    async with working(app, grace=0.0) as worker:
        first = await index.adelay(0)
        await until(lambda: seen)
        second = await index.adelay(1)
        if end == "cancelled":
            await first.acancel()
        if end == "given back":
            worker.stop()
        else:
            go.set()
            assert await second.aresult() == 1
            await settled(app)
    if end == "given back":
        go.set()
        async with working(app):
            assert {await first.aresult(), await second.aresult()} == {0, 1}
            await settled(app)
    assert seen.count(1) == 1
    assert seen.count(0) == (2 if end in ("snooze", "given back") else 1)


async def test_behind_a_job_that_is_unique_until_it_is_done_nothing_is_queued(nats_url: str) -> None:
    app, runs = fresh_app(nats_url), Runs()
    index = app.task(name="index", key="one")(_index(runs))
    async with working(app):
        first = await index.adelay(0, doc=1)
        await until(lambda: runs.started)
        second = await index.options(unique="running").adelay(1, doc=1)
        assert (second.id, second.disposition) == (first.id, "existing")
        runs.open.set()
