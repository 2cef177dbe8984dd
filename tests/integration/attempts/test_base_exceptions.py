"""Whatever user code raises, its attempt is settled and its worker takes further jobs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from jetq import Jetq, JobContext, PayloadContext, task
from jetq.testing import AppTester, ServerTester, in_memory, on_server
from jetq.worker.attempts import expiry
from tests.apps import process_tasks

KINDS = [GeneratorExit, asyncio.CancelledError, SystemExit, KeyboardInterrupt, BaseException]

LONG = 30.0


def ran_by(tester: AppTester | ServerTester) -> Any:
    """What became of all jobs. A worker that does not come to an end fails the test, and does not hang it."""
    ran: list[Any] = []
    thread = threading.Thread(target=lambda: ran.append(tester.run_until_empty()), daemon=True)
    thread.start()
    thread.join(LONG)
    assert ran, "the worker did not end"
    return ran[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["loop", "thread", "process"])
def test_a_task_may_raise_anything(nats_url: str, where: str, kind: type[BaseException]) -> None:
    """Guarantee: whatever a task raises, its attempt has failed, and the worker lives."""

    @task(name="any-loop", max_attempts=1)
    async def on_loop(name: str) -> None:
        raise kind

    @task(name="any-thread", max_attempts=1)
    def in_thread(name: str) -> None:
        raise kind

    tasks = {"loop": on_loop, "thread": in_thread, "process": process_tasks.raises}
    with on_server(nats_url, Jetq()) as tester:
        tasks[where].options(max_attempts=1).delay(kind.__name__)
        assert ran_by(tester).dead == 1
        (letter,) = tester.dead_letters()
        assert letter.failure.type.endswith(kind.__name__)


async def cancels_its_task() -> None:
    running = asyncio.current_task()
    assert running is not None
    running.cancel()


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("raises", [False, True])
def test_a_task_may_cancel_itself(waits: bool, raises: bool) -> None:
    ended = 0

    @task(name="any-itself", max_attempts=2, wait=60.0)
    async def itself() -> int:
        nonlocal ended
        if waits:
            await asyncio.sleep(0)
        await cancels_its_task()
        ended += 1
        if raises:
            raise ValueError
        return 1

    with in_memory(Jetq()) as tester:
        itself.delay()
        ran = ran_by(tester)
        assert (ran.succeeded, ran.retried) == ((0, 1) if raises else (1, 0))
        assert ended == 1


@pytest.mark.parametrize("kind", KINDS)
def test_middleware_may_raise_anything(kind: type[BaseException]) -> None:
    async def middleware(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        await call_next()
        raise kind

    @task(name="any-fine", max_attempts=1)
    async def fine() -> None: ...

    with in_memory(Jetq(middleware=[middleware])) as tester:
        fine.delay()
        assert ran_by(tester).dead == 1


@pytest.mark.parametrize("kind", [*KINDS, RuntimeError])
def test_the_hook_for_expired_jobs_may_raise_anything(kind: type[BaseException]) -> None:
    """Guarantee: a job that expired ends so, whatever the hook that is told of it raises."""

    async def hook(job: JobContext) -> None:
        raise kind

    @task(name="any-late")
    async def late() -> None: ...

    with in_memory(Jetq(on_expired=hook)) as tester:
        job = late.options(expires=1.0).delay()
        late.delay()
        tester.advance(2.0)
        ran = ran_by(tester)
        assert ran.succeeded == 1
        assert job.status() == "expired"


@pytest.mark.parametrize("swallows", [False, True])
def test_a_hook_for_expired_jobs_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, swallows: bool
) -> None:
    """Guarantee: a job that expired ends so within seconds, also when the hook that is told of it hangs; the log says
    it once."""
    monkeypatch.setattr(expiry, "_HOOK_WITHIN", 0.05)
    go = asyncio.Event()

    async def hook(job: JobContext) -> None:
        try:
            await go.wait()
        except asyncio.CancelledError:
            if swallows:
                await asyncio.sleep(0.3)

    @task(name="any-late-hook")
    async def late() -> None: ...

    with in_memory(Jetq(on_expired=hook)) as tester:
        job = late.options(expires=1.0).delay()
        tester.advance(2.0)
        ran_by(tester)
        assert job.status() == "expired"
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said == [f"the hook for the expired any-late-hook {job.id} does not end; the job goes without it"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_names_a_key_may_raise_anything(kind: type[BaseException]) -> None:
    broken = False

    def per(n: int) -> str:
        if broken:
            raise kind
        return str(n)

    @task(name="any-keyed", limit=1, limit_per=per, max_attempts=1)
    async def keyed(n: int) -> None: ...

    with in_memory(Jetq()) as tester:
        keyed.delay(1)
        broken = True
        assert ran_by(tester).dead == 1


class Argument(msgspec.Struct):
    """Cannot be decoded where `BREAK` is set."""

    kind: str

    def __post_init__(self) -> None:
        if name := os.environ.get("JETQ_TEST_BREAK"):
            raise {each.__name__: each for each in KINDS}[name]


@pytest.mark.parametrize("kind", KINDS)
def test_the_type_of_an_argument_may_raise_anything(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    @task(name="any-typed", max_attempts=1)
    async def typed(argument: Argument) -> None: ...

    with in_memory(Jetq()) as tester:
        typed.delay(Argument("x"))
        monkeypatch.setenv("JETQ_TEST_BREAK", kind.__name__)
        assert ran_by(tester).dead == 1


class Codec:
    """Cannot open anything."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def seal(self, body: bytes, context: PayloadContext) -> bytes:
        return body

    def open(self, body: bytes, context: PayloadContext) -> bytes:
        raise self.kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_codec_may_raise_anything(kind: type[BaseException]) -> None:
    @task(name="any-sealed", max_attempts=1)
    async def sealed(n: int) -> None: ...

    with in_memory(Jetq(payloads=Codec(kind))) as tester:
        sealed.delay(1)
        assert ran_by(tester).dead == 1
