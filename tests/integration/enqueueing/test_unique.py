"""Unique keys, debounce and throttle: of many calls one job, and which arguments it runs with."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jetq import ArgumentError, DefinitionError, Jetq, Job, JobExpired, PayloadTooLarge, Snooze, current_job
from jetq.broker import Broker
from jetq.operations.dead_letters import replay
from tests.apps.wire import Wire
from tests.apps.working import fresh_app, settled, until, working

pytestmark = pytest.mark.anyio


async def _gone(app: Jetq, id: str) -> None:
    """The job stands no more: its removal follows its result by a moment."""
    broker = await app.session.broker()
    async with asyncio.timeout(15):
        while await broker.find("default", id) is not None:
            await asyncio.sleep(0.01)


def _another(app: Jetq) -> Jetq:
    """Another app on the same namespace, as another process has one."""
    return Jetq(app.settings.servers, namespace=app.settings.namespace)


def _one_new(jobs: list[Job[Any]]) -> str:
    """The id of the one job that all of these handles are of."""
    assert Counter(job.disposition for job in jobs) == {"new": 1, "existing": len(jobs) - 1}
    (id,) = {job.id for job in jobs}
    return id


async def test_of_a_hundred_producers_of_one_key_at_once_one_is_new(nats_url: str) -> None:
    app = fresh_app(nats_url)
    apps = [app, *(_another(app) for _ in range(4))]
    ran: list[str] = []

    async def welcome(n: int) -> str:
        ran.append(current_job().id)
        return "sent"

    tasks = [each.task(name="welcome", key="welcome")(welcome) for each in apps]
    with ThreadPoolExecutor(20) as threads:
        loop = asyncio.get_running_loop()
        awaited = [tasks[n % 5].adelay(n) for n in range(80)]
        threaded = [loop.run_in_executor(threads, tasks[n % 5].delay, n) for n in range(20)]
        jobs = [*await asyncio.gather(*awaited), *await asyncio.gather(*threaded)]
    id = _one_new(jobs)
    for each in apps:
        await asyncio.to_thread(each.session.close)
    async with working(app):
        assert {await job.aresult() for job in jobs[:5]} == {"sent"}
        await settled(app)
    assert ran == [id]
    for each in apps[1:]:
        await each.session.aclose()


async def test_a_key_is_taken_while_its_job_is_scheduled_queued_running_and_between_attempts(nats_url: str) -> None:
    app = fresh_app(nats_url)
    at_work, go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)
    attempts: list[int] = []

    @app.task(name="keyed", key="k", wait=0.6, max_attempts=3)
    async def keyed() -> int:
        attempts.append(current_job().attempt)
        at_work.release()
        await go_on.acquire()
        if len(attempts) < 3:
            raise ConnectionError
        return len(attempts)

    first = await keyed.options(delay=0.5).adelay()
    answers: list[Job[int]] = []
    ended = asyncio.Event()

    async def keep_trying() -> None:
        while not ended.is_set():
            answers.append(await keyed.adelay())

    async def taken() -> None:
        since = len(answers)
        async with asyncio.timeout(10):
            while len(answers) < since + 3:
                await asyncio.sleep(0.01)

    trying = asyncio.create_task(keep_trying())
    try:
        await taken()
        assert await first.astatus() == "scheduled"
        async with asyncio.timeout(10):
            while await first.astatus() != "queued":
                await asyncio.sleep(0.02)
        await taken()
        async with working(app, grace=1):
            for _ in range(3):
                async with asyncio.timeout(10):
                    await at_work.acquire()
                await taken()
                if len(attempts) == 3:
                    ended.set()
                    await trying
                go_on.release()
            assert await first.aresult(timeout=20) == 3
            assert attempts == [1, 2, 3]
            assert {(job.id, job.disposition) for job in answers} == {(first.id, "existing")}
    finally:
        ended.set()
        await trying
        await app.session.aclose()


async def test_a_key_is_free_after_success_dead_letter_cancel_and_expiry(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="ends", key="k", max_attempts=1)
    async def ends(how: str) -> str:
        if how == "fail":
            raise ValueError(how)
        return how

    async with working(app):
        ids: list[str] = []

        async def new(how: str, **options: Any) -> Job[str]:
            job = await ends.options(**options).adelay(how)
            assert (job.disposition, job.id in ids) == ("new", False)
            ids.append(job.id)
            return job

        succeeds = await new("succeed")
        assert await succeeds.aresult() == "succeed"
        await _gone(app, succeeds.id)
        dies = await new("fail")
        with pytest.raises(ValueError, match="fail"):
            await dies.aresult()
        await _gone(app, dies.id)
        cancelled = await new("cancel", delay=60)
        assert await cancelled.acancel() == "removed"
        broker = await app.session.broker()
        await broker.pause("default")
        expires = await new("expire", expires=0.01)
        await asyncio.sleep(0.05)
        await broker.resume("default")
        with pytest.raises(JobExpired):
            await expires.aresult()
        await _gone(app, expires.id)
        await new("at last")
        await settled(app)


async def test_one_text_is_another_key_in_another_task_and_queue(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="a.b")
    async def dotted() -> None: ...

    @app.task(name="a.c")
    async def other() -> None: ...

    jobs = [
        await dotted.options(key="same").adelay(),
        await other.options(key="same").adelay(),
        await dotted.options(key="same", queue="elsewhere").adelay(),
        await dotted.options(key="Same").adelay(),
        await dotted.adelay(),
        await dotted.adelay(),
    ]
    assert [job.disposition for job in jobs] == ["new"] * 6
    assert len({job.id for job in jobs}) == 6
    await app.session.aclose()


TEXTS = [
    "grüße",
    "two words",
    " ",
    "a.b.c",
    "*",
    ">",
    "a.*",
    "a.>",
    "-",
    "=",
    "~",
    "a~b",
    "=0123",
    "$JS",
    "\n\r\0",
    "😀",
    "x" * 64,
    "x" * 65,
    "x" * 100_000,
    "\ud800",
]


async def test_any_text_is_a_key_of_its_own(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="keyed")
    async def keyed(n: int) -> int:
        ran.append(n)
        return n

    jobs = [await keyed.options(key=text).adelay(n) for n, text in enumerate(TEXTS)]
    again = [await keyed.options(key=text).adelay(-1) for text in TEXTS]
    assert [job.disposition for job in jobs] == ["new"] * len(TEXTS)
    assert [(job.disposition, job.id) for job in again] == [("existing", job.id) for job in jobs]
    for job in jobs:
        assert await app.job(job.id).astatus() == "queued"
    async with working(app):
        assert [await job.aresult() for job in again] == list(range(len(TEXTS)))
        await settled(app)
    assert sorted(ran) == list(range(len(TEXTS)))


async def test_a_key_is_made_of_the_arguments_by_template_or_function(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="template", key="welcome:{user_id}:{lang}")
    async def template(user_id: int, lang: str = "en", *, why: str = "") -> None: ...

    def welcome(user_id: int, why: str = "") -> str:
        return f"welcome {user_id}"

    @app.task(name="function", key=welcome)
    async def function(user_id: int, why: str = "") -> None: ...

    first = await template.adelay(1, why="first")
    assert (await template.adelay(lang="en", user_id=1)).id == first.id
    assert (await app.asend("template", {"user_id": 1})).id == first.id
    assert (await template.adelay(1, "de")).disposition == "new"
    assert (await template.options(key="own").adelay(1)).disposition == "new"
    assert first.id.endswith("~welcome:1:en")

    second = await function.adelay(1)
    assert (await function.adelay(1, why="again")).id == second.id
    assert (await app.asend("function", {"user_id": 1, "why": "sent"})).id == second.id
    assert (await function.adelay(2)).disposition == "new"
    await app.session.aclose()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("{nobody}", "'nobody', which is no parameter"),
        ("{}", "no parameter"),
        ("{user_id", "no template"),
        ("", "not empty"),
        (5, "not int"),
    ],
)
def test_a_bad_template_is_an_error_where_the_task_is_defined(key: Any, said: str) -> None:
    app = Jetq("nats://127.0.0.1:1", namespace="nowhere")
    with pytest.raises(DefinitionError, match=said):

        @app.task(name="welcome", key=key)
        async def welcome(user_id: int) -> None: ...


def _raises(user_id: int) -> str:
    raise LookupError("no such user")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (_raises, "give no key: LookupError: no such user"),
        (lambda user_id: user_id, "give int"),
        (lambda user_id: None, "give NoneType"),
        (lambda user_id: "", "give an empty text"),
        (lambda: "x", "give no key: TypeError"),
        ("{user_id.name}", "give no key: AttributeError"),
        ("{user_id:%Q}", "give no key: ValueError"),
    ],
)
def test_arguments_that_give_no_key_are_an_error_at_the_caller(key: Any, said: str) -> None:
    app = Jetq("nats://127.0.0.1:1", namespace="nowhere")

    @app.task(name="welcome", key=key)
    async def welcome(user_id: int) -> None: ...

    with pytest.raises(ArgumentError, match=f"welcome.*{said}"):
        welcome.bind(1)
    with pytest.raises(ArgumentError, match=said):
        app.call("welcome", {"user_id": 1})


def test_options_that_need_a_key_say_so() -> None:
    app = Jetq("nats://127.0.0.1:1", namespace="nowhere")

    @app.task(name="plain")
    async def plain() -> None: ...

    options: Any
    for options in ({"replace": True}, {"throttle": 5}):
        with pytest.raises(DefinitionError, match="needs a key"):
            plain.options(**options)
    with pytest.raises(DefinitionError, match="max_wait"):
        plain.options(key="k", max_wait=5)
    with pytest.raises(DefinitionError, match="1 s or more"):
        plain.options(key="k", throttle=0.5)


async def test_duplicates_in_a_batch_have_the_handle_of_the_first_in_order(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="keyed", key="{k}")
    async def keyed(k: str, n: int) -> int:
        ran.append(n)
        return n

    ks = ["a", "b", "a", "c", "b", "a"]
    jobs = await app.adelay_many(keyed.bind(k, n) for n, k in enumerate(ks))
    assert [job.disposition for job in jobs] == ["new", "new", "existing", "new", "existing", "existing"]
    first = {"a": 0, "b": 1, "c": 3}
    assert [job.id for job in jobs] == [jobs[first[k]].id for k in ks]
    async with working(app):
        assert [await job.aresult() for job in jobs] == [first[k] for k in ks]
        await settled(app)
    assert sorted(ran) == [0, 1, 3]


async def test_a_dead_job_is_not_replayed_while_another_of_its_key_stands(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="keyed", key="k", max_attempts=1)
    async def keyed(fail: bool) -> int:
        if fail:
            raise ValueError
        return 1

    broker: Broker
    async with working(app):
        dead = await keyed.adelay(True)
        with pytest.raises(ValueError):
            await dead.aresult()
        await _gone(app, dead.id)
        living = await keyed.options(delay=60).adelay(False)
        broker = await app.session.broker()
        entries = await broker.dead("default")
        assert await replay(broker, entries) == (0, [dead.id])
        assert await broker.dead("default") == entries
        assert await living.acancel() == "removed"
        assert await replay(broker, entries) == (1, [])
        await settled(app)


# --- debounce


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


# --- unique="running"


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
