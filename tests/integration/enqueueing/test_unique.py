"""Unique keys: of many calls one job, and which texts and arguments make one key."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jetq import ArgumentError, DefinitionError, Jetq, Job, JobExpired, current_job
from jetq.broker import Broker
from jetq.operations.dead_letters import replay
from tests.apps.working import fresh_app, settled, working
from tests.integration.enqueueing.unique_keys import _another, _gone, _one_new

pytestmark = pytest.mark.anyio


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
