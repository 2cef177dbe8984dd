"""Jobs that run where they are enqueued."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import date
from typing import Any

import pytest

from jetq import ArgumentError, Jetq, Reject, ResultTimeout, Retry, Snooze, TaskFailed, current_job
from jetq.testing import AppTester, inline

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class World:
    """An app whose tasks write down what they do."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.app = Jetq(middleware=[self.around], lifespan=self.lifespan)

        @self.app.task(name="add")
        async def add(x: int, at: date = date(2024, 2, 29)) -> tuple[int, date]:
            self.seen.append(("add", x))
            return x + 1, at

        @self.app.task(name="sync")
        def sync(x: int) -> str:
            self.seen.append(("sync", x, TENANT.get(), current_job().attempt))
            return "done"

        @self.app.task(name="ends", wait=60, max_attempts=2, result_ttl=60)
        async def ends(how: str) -> str:
            match how:
                case "fails" | "fails once" if how == "fails" or current_job().attempt == 1:
                    raise KeyError("k")
                case "retries":
                    raise Retry(30)
                case "snoozes":
                    raise Snooze(60)
                case "rejects":
                    raise Reject("never")
                case _:
                    return how

        @self.app.task(name="parent")
        async def parent(children: int) -> None:
            for child in range(children):
                await add.adelay(child)
            self.seen.append("parent")

        @self.app.task(name="slow", result_ttl=60)
        async def slow() -> str:
            await asyncio.sleep(0.1)  # longer than a look at what it came to
            return "done"

        @self.app.task(name="asks", result_ttl=60)
        def asks(in_thread: bool) -> str:
            if not in_thread:
                return slow.delay().result(timeout=10)
            with ThreadPoolExecutor(1) as thread:  # which knows nothing of the job
                return thread.submit(lambda: slow.delay().result(timeout=10)).result()

        @self.app.task(name="failing-parent")
        async def failing_parent() -> None:
            await ends.adelay("rejects")
            raise Snooze(60)

        @self.app.task(name="forever")
        async def forever() -> None:
            await forever.adelay()

        self.add, self.sync, self.ends, self.parent, self.asks = add, sync, ends, parent, asks
        self.failing_parent, self.forever = failing_parent, forever

    async def around(self, job: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        self.seen.append("around")
        return await call_next()

    @asynccontextmanager
    async def lifespan(self, app: Jetq) -> AsyncIterator[None]:
        self.seen.append("up")
        yield
        self.seen.append("down")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def jobs(world: World) -> Iterator[AppTester]:
    with inline(world.app) as tester:
        yield tester


def test_a_job_has_run_when_delay_returns(world: World, jobs: AppTester) -> None:
    job = world.add.delay(1)
    assert world.seen == ["up", "around", ("add", 1), "down"]
    assert (job.result(), job.status()) == ((2, date(2024, 2, 29)), "succeeded")
    world.sync.options(result_ttl=None).delay(2).wait()
    assert world.seen[4:] == ["up", "around", ("sync", 2, "nobody", 1), "down"]
    assert jobs.enqueued() == []


def test_every_way_to_enqueue_runs(world: World, jobs: AppTester) -> None:
    many = world.add.delay_many(world.add.bind(n) for n in range(3))
    assert [job.result()[0] for job in many] == [1, 2, 3]
    assert world.app.send("add", {"x": 5}).result() == (6, date(2024, 2, 29))
    assert world.app.enqueue(world.add.bind(6)).result()[0] == 7
    assert world.add.options(key="k", expires=60).delay(7).result()[0] == 8


def test_arguments_are_checked_and_cross_as_ever(world: World, jobs: AppTester) -> None:
    with pytest.raises(ArgumentError, match="x: expected int, got str"):
        world.add.delay("one")  # type: ignore[arg-type]
    assert world.seen == []


def test_a_job_sees_nothing_of_its_callers_context(world: World, jobs: AppTester) -> None:
    TENANT.set("ours")
    world.sync.delay(1)
    assert ("sync", 1, "nobody", 1) in world.seen


@pytest.mark.parametrize("how", ["fails", "retries", "snoozes"])
def test_what_failed_raises_nothing_at_delay_and_waits_for_its_time(how: str, world: World, jobs: AppTester) -> None:
    job = world.ends.delay(how)
    with pytest.raises(ResultTimeout, match=r"nothing runs it before its time(?s:.*)advance\(\)"):
        job.result(timeout=None)  # which would wait for ever
    with pytest.raises(ResultTimeout):
        job.wait(timeout=None)
    assert job.status() == "scheduled"
    assert jobs.assert_enqueued(world.ends).due is not None


def test_a_retry_runs_when_the_test_lets_time_pass(world: World, jobs: AppTester) -> None:
    job = world.ends.delay("fails once")
    jobs.advance(60)
    assert jobs.run_until_empty().succeeded == 1
    assert job.result() == "fails once"


def test_a_dead_job_tells_by_its_result(world: World, jobs: AppTester) -> None:
    job = world.ends.delay("rejects")
    with pytest.raises(TaskFailed, match="never"):
        job.result()
    assert [letter.id for letter in jobs.dead_letters()] == [job.id]


def test_a_job_for_later_waits(world: World, jobs: AppTester) -> None:
    job = world.add.options(delay=60).delay(1)
    assert (world.seen, job.status()) == ([], "scheduled")
    jobs.advance(60)
    assert jobs.run_until_empty().succeeded == 1
    assert job.result()[0] == 2


def test_what_a_job_enqueues_has_run_too(world: World, jobs: AppTester) -> None:
    world.parent.delay(3)
    assert world.seen.count("up") == 1
    assert {each for each in world.seen if each[0] == "add"} == {("add", 0), ("add", 1), ("add", 2)}
    assert jobs.enqueued() == []


def test_what_a_limit_holds_up_has_run_too(world: World, jobs: AppTester) -> None:
    @world.app.task(name="one-at-a-time", limit=1)
    async def one_at_a_time(depth: int) -> None:
        if depth:
            await one_at_a_time.adelay(depth - 1)
        world.seen.append(depth)

    one_at_a_time.delay(2)
    assert [each for each in world.seen if isinstance(each, int)] == [2, 1, 0]


def test_a_job_of_a_paused_queue_waits_for_its_end(world: World, jobs: AppTester) -> None:
    async def pause() -> None:
        broker = await world.app.session.broker()
        await broker.pause("default", jobs.clock.now() + 60)

    asyncio.run(pause())
    world.add.delay(1)
    assert ("add", 1) not in world.seen
    jobs.advance(61)
    assert jobs.run_until_empty().succeeded == 1


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_job_may_wait_for_what_it_has_enqueued(in_thread: bool, world: World, jobs: AppTester) -> None:
    assert world.asks.delay(in_thread).result() == "done"


def test_the_same_in_a_run_that_the_test_asks_for(world: World, jobs: AppTester) -> None:
    job = world.asks.options(delay=60).delay(False)
    jobs.advance(60)
    assert jobs.run_until_empty().succeeded == 2
    assert job.result() == "done"


def test_jobs_without_end_are_an_error(world: World, jobs: AppTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jetq.testing.tester._MOST_ATTEMPTS", 50)
    with pytest.raises(AssertionError, match="for ever"):
        world.forever.delay()


def test_delay_raises_if_asked(world: World) -> None:
    middleware = world.app.middleware
    with inline(world.app, raises=True) as jobs:
        with pytest.raises(KeyError) as raised:
            world.ends.delay("fails")
        assert raised.traceback[-1].name == "ends"  # where it happened, for a debugger
        assert jobs.assert_enqueued(world.ends).attempt == 2
        with pytest.raises(Retry):
            world.ends.delay("retries")
        with pytest.raises(Reject):
            world.failing_parent.delay()
        assert world.ends.delay("snoozes").status() == "scheduled"
        assert world.add.delay(1).result()[0] == 2
    assert world.app.middleware == middleware


def test_delay_raises_what_failed_outside_of_the_task_too(world: World) -> None:
    def unstorable():  # type: ignore[no-untyped-def]
        return object()

    made = world.app.task(name="unstorable")(unstorable)
    with inline(world.app, raises=True), pytest.raises(TaskFailed, match="keeps none"):
        made.delay()


def test_what_nobody_here_can_run_stays(world: World, jobs: AppTester) -> None:
    with inline(Jetq()) as tester:
        tester.app.send("elsewhere.task", {"x": 1})
        assert [job.task for job in tester.enqueued()] == ["elsewhere.task"]


def test_a_second_job_of_a_key_is_the_first_ones(world: World, jobs: AppTester) -> None:
    first = world.add.options(key="k", delay=60).delay(1)
    second = world.add.options(key="k").delay(1)
    assert (second.id, second.disposition, second.status()) == (first.id, "existing", "scheduled")


def test_the_app_is_as_it_was_afterwards(world: World) -> None:
    kept = world.app.session, world.app.client
    threads = set(threading.enumerate())
    with inline(world.app):
        world.sync.delay(1)
    assert (world.app.session, world.app.client) == kept
    deadline = time.monotonic() + 10
    while left := set(threading.enumerate()) - threads:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def test_threads_enqueue_side_by_side(world: World, jobs: AppTester) -> None:
    results: list[Any] = []

    def enqueue(n: int) -> None:
        results.append(world.add.delay(n).result()[0])

    threads = [threading.Thread(target=enqueue, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == list(range(1, 9))


@pytest.mark.anyio
async def test_from_async_code_on_its_own_loop(world: World, jobs: AppTester) -> None:
    loops: list[object] = []

    @world.app.task(name="where")
    async def where() -> None:
        loops.append(asyncio.get_running_loop())

    job = await where.adelay()
    assert loops == [asyncio.get_running_loop()]
    await job.await_()
    assert (await (await world.add.adelay(1)).aresult())[0] == 2
    many = await world.add.adelay_many(world.add.bind(n) for n in range(3))
    assert [(await each.aresult())[0] for each in many] == [1, 2, 3]
    assert (await (await world.app.asend("add", {"x": 5})).aresult())[0] == 6
    with pytest.raises(ResultTimeout):
        await (await world.ends.adelay("fails")).aresult()


@pytest.mark.anyio
async def test_many_at_once_from_async_code(world: World, jobs: AppTester) -> None:
    async def one(n: int) -> int:
        return (await (await world.add.adelay(n)).aresult())[0]

    assert await asyncio.gather(*(one(n) for n in range(8))) == list(range(1, 9))


@pytest.mark.anyio
async def test_a_call_without_await_on_a_loop_works_and_warns_as_ever(world: World, jobs: AppTester) -> None:
    with pytest.warns(match="without await"):
        job = world.sync.delay(1)
    assert await job.aresult() == "done"


def test_a_lifespan_may_enqueue(world: World) -> None:
    @asynccontextmanager
    async def lifespan(app: Jetq) -> AsyncIterator[None]:
        await world.add.adelay(9)
        yield

    world.app.lifespan = lifespan
    with inline(world.app):
        world.sync.delay(1)
    assert ("add", 9) in world.seen
