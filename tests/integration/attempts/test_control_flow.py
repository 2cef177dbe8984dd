"""What a task says by what it raises, wherever that comes from: task groups, threads, processes, and `return`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from jetq import Jetq, JobContext, Task, task
from jetq.errors import JobTimeout, RateLimited, Reject, Retry, Snooze
from jetq.testing import Ran, in_memory
from tests.apps import process_tasks
from tests.apps.spinning import spin
from tests.apps.working import fresh_app, working


class Gone(Exception):
    pass


async def of_asyncio(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(part())
        group.create_task(asyncio.sleep(60))


async def of_anyio(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with anyio.create_task_group() as outer, anyio.create_task_group() as group:
        group.start_soon(part)
        outer.start_soon(anyio.sleep, 60)


GROUPS = {"asyncio": of_asyncio, "anyio": of_anyio}


def ran(tested: Task[[], Any]) -> Ran:
    with in_memory(Jetq()) as tester:
        tested.delay()
        return tester.run_until_empty()


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (lambda: Reject("no such order"), {}, Ran(dead=1)),
        (Gone, {"dead_on": Gone}, Ran(dead=1)),
        (Gone, {"dead_on": lambda error: isinstance(error, Gone)}, Ran(dead=1)),
        (Gone, {"retry_on": OSError}, Ran(dead=1)),
        (Gone, {"retry_on": Gone}, Ran(retried=1)),
        (lambda: Retry(5), {"dead_on": Exception}, Ran(retried=1)),
        (lambda: Snooze(10), {"dead_on": Exception}, Ran(snoozed=1)),
        (lambda: RateLimited(5), {"retry_on": OSError}, Ran(snoozed=1)),
        (lambda: ValueError("order 17 has no address"), {}, Ran(retried=1)),
    ],
    ids=["reject", "dead_on", "dead_on-function", "retry_on-other", "retry_on", "retry", "snooze", "limited", "plain"],
)
def test_a_task_group_changes_nothing(
    make: Callable[[], Exception], options: dict[str, Any], expected: Ran, group: str, where: Literal["loop", "thread"]
) -> None:
    async def part() -> None:
        raise make()

    async def on_loop() -> None:
        await GROUPS[group](part)

    def in_thread() -> None:
        asyncio.run(on_loop())

    named = f"flow.{group}-{where}-{id(make)}-{id(options)}"
    tested: Task[[], Any]
    if where == "loop":
        tested = task(name=named, wait=60, **options)(on_loop)
    else:
        tested = task(name=named, wait=60, **options)(in_thread)
    became = ran(tested)
    assert (became.dead, became.retried, became.snoozed) == (expected.dead, expected.retried, expected.snoozed)
    for error in became.errors:
        assert (error.type.rpartition(".")[2], error.message) == (type(make()).__name__, str(make()))


@pytest.mark.anyio
async def test_a_timeout_in_a_task_group_of_a_thread_is_a_timeout(nats_url: str) -> None:
    app = fresh_app(nats_url)

    async def spins() -> None:
        spin()

    @app.task(name="spins", timeout=0.3, max_attempts=3, dead_on=JobTimeout)
    def in_thread() -> int:
        asyncio.run(of_asyncio(spins))
        return 0

    async with working(app):
        with pytest.raises(JobTimeout):
            await (await in_thread.adelay()).aresult(timeout=20)


@pytest.mark.parametrize(
    ("raised_from", "reason", "told"),
    [
        (True, None, "retry requested: ConnectionRefusedError: [Errno 111] refused"),
        (False, None, "retry requested: ConnectionRefusedError: [Errno 111] refused"),
        (True, "the bank sleeps", "the bank sleeps"),
    ],
    ids=["from", "while-handling", "reason"],
)
@pytest.mark.parametrize("where", ["thread", "process"])
def test_the_error_of_a_retry_is_that_for_which_it_was_raised(
    where: str, raised_from: bool, reason: str | None, told: str
) -> None:
    in_thread = task(name=f"flow.{id(told)}", max_attempts=1)(process_tasks.retries_what_failed.fn)
    tested = in_thread if where == "thread" else process_tasks.retries_what_failed
    with in_memory(Jetq()) as tester:
        tested.delay(raised_from, reason)
        (error,) = tester.run_until_empty().errors
    assert error.message == told


def test_a_process_sends_what_decides_in_a_group() -> None:
    with in_memory(Jetq()) as tester:
        process_tasks.raises_a_group.delay("reject")
        process_tasks.raises_a_group.delay("snooze")
        became = tester.run_until_empty()
    assert (became.dead, became.snoozed) == (1, 1)
    assert became.errors[0].type == "tests.apps.process_tasks.OddReject"


def test_a_process_that_dies_is_seen_in_a_group_of_middleware(tmp_path: Path) -> None:
    async def middleware(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call_next()
        except Exception as error:
            raise ExceptionGroup("g", [Reject("no"), error]) from None

    with in_memory(Jetq(middleware=[middleware])) as tester:
        process_tasks.dies.delay("exit", str(tmp_path / "starts"))
        assert tester.run_until_empty().snoozed == 1
        tester.advance(60)
        assert tester.run_until_empty().dead == 1
        assert tester.dead_letters()[0].reason == "crashed"


@pytest.mark.parametrize("ttl", [None, 60])
@pytest.mark.parametrize("where", ["loop", "thread", "process"])
def test_what_is_returned_and_not_raised_is_a_failure_that_says_so(
    where: str, ttl: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: a Retry, Snooze or Reject that a task returns is not taken for a success."""

    @task(name="flow.returns-on-loop")
    async def on_loop():  # type: ignore[no-untyped-def]
        return Retry(1)

    @task(name="flow.returns-in-thread")
    def in_thread():  # type: ignore[no-untyped-def]
        return Retry

    tasks: dict[str, Task[[], Any]] = {"loop": on_loop, "thread": in_thread, "process": process_tasks.returns_a_retry}
    with caplog.at_level(logging.ERROR, "jetq.worker"), in_memory(Jetq()) as tester:
        tasks[where].options(result_ttl=ttl).delay()
        assert tester.run_until_empty().dead == 1
        (letter,) = tester.dead_letters()
    assert letter.reason == "failed"
    assert "the task returned Retry and did not raise it" in letter.failure.message
    assert "write `raise Retry(...)`; see `jetq dlq show`" in caplog.text
