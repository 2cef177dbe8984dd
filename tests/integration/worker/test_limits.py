"""What jobs do that wait for a limit, and what can be done to them meanwhile."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jetq import ArgumentError, DefinitionError, Jetq, Job, JobCancelled, RateLimited, current_job
from jetq.broker import Broker
from jetq.model.queue_info import QueueInfo
from jetq.operations.why_waiting import diagnose
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, settled, until, until_state, working

pytestmark = pytest.mark.anyio


async def _info(broker: Broker) -> QueueInfo:
    return next(info for info in await broker.queues() if info.name == "default")


class Crowd:
    """Counts who is inside, and lets nobody out before `open` is set."""

    def __init__(self) -> None:
        self.inside = self.most = self.passed = 0
        self.open = asyncio.Event()

    async def pass_through(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
            self.passed += 1


async def test_jobs_that_wait_take_no_slot_of_the_worker(nats_url: str) -> None:
    app, crowd, others = fresh_app(nats_url), Crowd(), []

    @app.task(limit=1, name="lim.one")
    async def one() -> None:
        await crowd.pass_through()

    @app.task(name="lim.other")
    async def other(n: int) -> None:
        others.append(n)

    async with working(app, concurrency=2):
        for _ in range(8):
            await one.adelay()
        await until(lambda: crowd.inside == 1)
        for n in range(5):
            await other.adelay(n)
        await until(lambda: len(others) == 5)
        assert crowd.inside == 1
        crowd.open.set()
        await settled(app)
    assert (crowd.most, crowd.passed) == (1, 8)


async def test_a_worker_with_one_slot_runs_them_one_by_one(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()
    crowd.open.set()

    @app.task(limit=3, name="lim.three")
    async def three() -> None:
        await crowd.pass_through()
        await asyncio.sleep(0)

    await three.adelay_many(three.bind() for _ in range(100))
    async with working(app, concurrency=1):
        await settled(app)
    assert (crowd.most, crowd.passed) == (1, 100)


async def test_more_than_wait_in_the_worker_stand_in_line_and_all_run(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()

    @app.task(limit=2, name="lim.two")
    async def two() -> None:
        await crowd.pass_through()

    jobs = await two.adelay_many(two.bind() for _ in range(200))
    async with working(app, concurrency=5):
        broker = await app.session.broker()
        await until(lambda: crowd.inside == 2)
        async with asyncio.timeout(15):
            while (info := await _info(broker)).scheduled < 100 or info.ready:
                await asyncio.sleep(0.02)
        assert info.running <= 40
        assert await jobs[-1].astatus() == "queued"
        assert (await jobs[-1].ainfo()).in_line is not None
        (reason,) = (await diagnose(broker, jobs[-1].id)).reasons
        assert "waited in line for the limit" in reason
        waiting = await asyncio.gather(*(diagnose(broker, job.id) for job in jobs[:8]))
        assert any("as many of its task or key run as its limit allows" in each.reasons[0] for each in waiting)
        crowd.open.set()
        await settled(app)
        assert await broker.oldest_cell("line.lim:two~-") is None
    assert (crowd.most, crowd.passed) == (2, 200)


@pytest.mark.parametrize("options", [{"limit": 1}, {"rate": "200/s", "limit": 2}, {"limit": 1, "limit_per": "{key}"}])
async def test_a_line_whose_workers_are_gone_is_found_by_the_next_one(nats_url: str, options: dict[str, Any]) -> None:
    crowd = Crowd()
    ran: dict[str, float] = {}
    app = fresh_app(nats_url)
    apps = [app, *(Jetq(nats_url, namespace=app.settings.namespace) for _ in range(2))]

    async def found(key: str) -> None:
        await crowd.pass_through()
        ran[current_job().id] = time.time()

    tasks = [each.task(name="lim.found", **options)(found) for each in apps]
    jobs = await tasks[0].adelay_many(tasks[0].bind("a") for _ in range(50))
    broker = await app.session.broker()
    async with working(apps[1], concurrency=5) as first:
        async with asyncio.timeout(15):
            while (info := await _info(broker)).scheduled < 10 or info.ready:
                await asyncio.sleep(0.02)
        first.kill()
    in_line = {each.delivery.id: each.due for each in await broker.stored_jobs("default") if each.due is not None}
    for job in jobs:  # what else there is would tell of the line as well
        if job.id not in in_line:
            await job.acancel()
    crowd.open.set()
    async with working(apps[2], concurrency=5):
        await settled(app)
    await app.session.aclose()
    assert set(ran) == set(in_line)
    assert [id for id, due in in_line.items() if ran[id] >= due] == [], "came back by itself"


async def test_a_burst_worker_empties_the_line(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()
    crowd.open.set()

    @app.task(limit=1, name="lim.one")
    async def one() -> None:
        await crowd.pass_through()

    await one.adelay_many(one.bind() for _ in range(100))
    async with working(app, concurrency=5, burst=True):
        await settled(app)
    assert (crowd.most, crowd.passed) == (1, 100)


async def test_one_that_waits_in_a_worker_or_in_line_can_be_cancelled(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()
    ran = set()

    @app.task(limit=1, name="lim.one")
    async def one(n: int) -> None:
        ran.add(n)
        await crowd.pass_through()

    jobs = await one.adelay_many(one.bind(n) for n in range(60))
    async with working(app, concurrency=5):
        broker = await app.session.broker()
        await until(lambda: crowd.inside == 1)
        async with asyncio.timeout(15):
            while (await _info(broker)).ready:
                await asyncio.sleep(0.02)
        states = [await broker.find("default", job.id) for job in jobs]
        held = [n for n, found in enumerate(states) if found is not None and found.state == "queued" and n not in ran]
        in_line = [n for n, found in enumerate(states) if found is not None and found.state == "scheduled"]
        for n in (held[0], in_line[0]):
            await jobs[n].acancel()
            assert await jobs[n].astatus() == "cancelled"
        crowd.open.set()
        await settled(app)
    assert ran == set(range(60)) - {held[0], in_line[0]}
    assert crowd.most == 1


async def test_a_job_in_line_that_is_moved_is_not_called_up(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()
    ran = set()

    @app.task(limit=1, name="lim.one")
    async def one(n: int) -> None:
        ran.add(n)
        await crowd.pass_through()

    jobs = await one.adelay_many(one.bind(n) for n in range(60))
    async with working(app, concurrency=5):
        broker = await app.session.broker()
        await until(lambda: crowd.inside == 1)
        async with asyncio.timeout(15):
            while (await _info(broker)).ready:
                await asyncio.sleep(0.02)
        in_line = [n for n, job in enumerate(jobs) if (f := await broker.find("default", job.id)) and f.due is not None]
        moved = in_line[0]
        assert await jobs[moved].areschedule(at=datetime.now(UTC) + timedelta(days=1))
        assert await jobs[moved].astatus() == "scheduled"
        crowd.open.set()
        await until(lambda: len(ran) == 59, timeout=30)

        async def is_scheduled() -> bool:
            return await jobs[moved].astatus() == "scheduled"

        await stays_so_for(0.6, is_scheduled)  # a look at the line more
    assert moved not in ran


async def test_a_stopping_worker_gives_back_those_that_wait(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()

    @app.task(limit=1, name="lim.one", result_ttl=None)
    async def one() -> None:
        await crowd.pass_through()

    await one.adelay_many(one.bind() for _ in range(10))
    async with working(app) as first:
        await until(lambda: crowd.inside == 1)
        first.stop()
        broker = await app.session.broker()
        async with asyncio.timeout(10):  # at once: the lease is 30 s
            while (await _info(broker)).ready != 9:
                await asyncio.sleep(0.02)
        crowd.open.set()
    assert crowd.passed == 1


async def test_expiry_counts_while_waiting_for_a_limit(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()

    @app.task(limit=1, name="lim.one")
    async def one() -> None:
        await crowd.pass_through()

    async with working(app):
        await one.adelay()
        await until(lambda: crowd.inside == 1)
        late: Job[None] = await one.options(expires=1.0).adelay()
        await asyncio.sleep(1.5)
        crowd.open.set()
        await until_state(late, "expired")
    assert crowd.passed == 1


async def test_keys_have_a_limit_each(nats_url: str) -> None:
    app = fresh_app(nats_url)
    crowds = {name: Crowd() for name in ("a", "b", "c")}

    @app.task(limit=2, limit_per="{where}/{customer}", name="lim.each")
    async def each(customer: str, where: str = "eu") -> None:
        await crowds[customer].pass_through()

    async with working(app):
        for customer in crowds:
            for _ in range(5):
                await each.adelay(customer)
        await until(lambda: all(crowd.inside == 2 for crowd in crowds.values()))
        for crowd in crowds.values():
            crowd.open.set()
        await settled(app)
    assert [(crowd.most, crowd.passed) for crowd in crowds.values()] == [(2, 5)] * 3


async def test_a_limited_task_may_fail_retry_and_snooze(nats_url: str) -> None:
    app, attempts = fresh_app(nats_url), []

    @app.task(limit=1, name="lim.flaky", wait=0.0, max_attempts=3)
    async def flaky() -> int:
        attempts.append(current_job().attempt)
        if len(attempts) < 3:
            raise ConnectionError
        return len(attempts)

    async with working(app):
        job = await flaky.adelay()
        assert await job.aresult(timeout=10) == 3
    assert attempts == [1, 2, 3]


async def test_a_rate_limited_task_pauses_everywhere(nats_url: str) -> None:
    one = fresh_app(nats_url)
    two = Jetq(nats_url, namespace=one.settings.namespace)
    started: list[float] = []

    async def call_api(n: int) -> int:
        started.append(asyncio.get_running_loop().time())
        if n == 0 and len(started) == 1:
            raise RateLimited(2.0)
        return n

    api = one.task(name="lim.api", max_attempts=1)(call_api)
    two.task(name="lim.api", max_attempts=1)(call_api)
    async with working(one), working(two):
        first = await api.adelay(0)
        await until(lambda: started)
        await asyncio.sleep(0.3)
        jobs = [await api.adelay(n) for n in range(1, 11)]
        await stays_so_for(0.5, lambda: len(started) == 1)
        assert [await job.aresult(timeout=15) for job in jobs] == list(range(1, 11))
        assert await first.aresult(timeout=15) == 0  # its only attempt was not burned
    assert started[1] - started[0] >= 1.9


async def test_a_rate_limited_key_leaves_the_others_alone(nats_url: str) -> None:
    app, started = fresh_app(nats_url), []

    @app.task(name="lim.api", limit_per="customer", rate="1000/s")
    async def api(customer: str) -> None:
        started.append(customer)
        if started.count("hot") == 1 and customer == "hot":
            raise RateLimited(2.0)

    async with working(app):
        await api.adelay("hot")
        await until(lambda: "hot" in started)
        await asyncio.sleep(0.2)
        for customer in ("hot", "cold", "cold", "warm"):
            await api.adelay(customer)
        await until(lambda: len(started) == 4, timeout=1.5)
        assert started.count("hot") == 1
        await settled(app)
    assert started.count("hot") == 3


async def test_arguments_that_give_no_key_are_refused_where_they_are_written(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(limit=1, limit_per="order[customer]", name="lim.orders")
    async def orders(order: dict[str, str]) -> None: ...

    with pytest.raises(ArgumentError, match=r"lim\.orders: these arguments give no key: KeyError"):
        await orders.adelay({})
    without_the_code = Jetq(nats_url, namespace=app.settings.namespace)
    async with working(app):
        job = await without_the_code.asend("lim.orders", {"order": {}})
        await until_state(job, "dead")
        (letter,) = await (await app.session.broker()).dead("default")
        assert letter.letter.reason == "bad-arguments"
    await without_the_code.session.aclose()


def test_a_key_of_no_parameter_is_refused_at_the_definition() -> None:
    async def orders(customer: str) -> None: ...

    with pytest.raises(DefinitionError, match=r"limit_per '\{client\}' names 'client'"):
        Jetq().task(limit=1, limit_per="client", name="lim.bad")(orders)


async def test_a_job_that_waits_can_still_be_cancelled_at_its_result(nats_url: str) -> None:
    app, crowd = fresh_app(nats_url), Crowd()

    @app.task(limit=1, name="lim.one", result_ttl=60)
    async def one() -> int:
        await crowd.pass_through()
        return 1

    async with working(app):
        first, second = await one.adelay(), await one.adelay()
        await until(lambda: crowd.inside == 1)
        await second.acancel()
        with pytest.raises(JobCancelled):
            await second.aresult(timeout=5)
        crowd.open.set()
        assert await first.aresult(timeout=5) == 1


@pytest.mark.slow
@pytest.mark.parametrize("keywords", [{"limit": 50}, {"rate": "1000/s"}, {}], ids=["limit", "rate", "pause"])
async def test_those_let_in_are_no_more_than_the_worker_has_slots(nats_url: str, keywords: Any) -> None:
    app = fresh_app(nats_url)
    inside = most = ran = 0
    paused = False

    @app.task(name="lim.many", **keywords)
    async def many() -> None:
        nonlocal inside, most, ran, paused
        if not keywords and not paused:
            paused = True
            raise RateLimited(1.0)
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        ran += 1

    async with working(app, concurrency=3):
        if not keywords:
            await many.adelay()
            await until(lambda: paused)
            await asyncio.sleep(0.1)
        await many.adelay_many(many.bind() for _ in range(60))
        await settled(app)
    assert ran == (61 if not keywords else 60)
    assert most <= 3
