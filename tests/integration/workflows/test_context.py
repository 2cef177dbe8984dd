"""What the code of a member knows of its workflow: the handle, its step, and its number."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from jetq import Jetq, JobContext, SignedPayloads, current_job, each, group
from tests.apps import process_tasks
from tests.apps.fresh import no_app_yet, own_tasks
from tests.apps.working import fresh_app, share, working

pytestmark = pytest.mark.anyio

Place = tuple[str | None, int, str | None]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    yield


async def value(app: Jetq, work: Any, id: str) -> Any:
    async with working(app):
        return json.loads(json.dumps(await (await work.adelay(id=id)).aresult(20)))


async def test_a_member_knows_its_place(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="place")
    async def place(_: int) -> Place:
        job = current_job()
        return job.step, job.index, None if job.workflow is None else job.workflow.id

    found = await value(app, each(place, range(3)).named("places"), "known")
    assert found == [["places", 0, "known"], ["places", 1, "known"], ["places", 2, "known"]]


async def test_a_job_of_no_workflow_has_no_place(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="place")
    async def place() -> Place:
        job = current_job()
        return job.step, job.index, None if job.workflow is None else job.workflow.id

    async with working(app):
        assert await (await place.adelay()).aresult(20) == (None, 0, None)


async def test_a_member_asks_for_its_workflow_on_the_loop(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="first")
    async def first() -> int:
        return 1

    @app.task(name="asks")
    async def asks(n: int) -> dict[str, str]:
        workflow = current_job().workflow
        assert workflow is not None and await workflow.astatus() == "running"
        return {name: step.state for name, step in (await workflow.asteps()).items()}

    assert await value(app, first.bind() | asks, "w") == {"first": "succeeded", "asks": "running"}


async def test_a_member_asks_for_its_workflow_in_a_thread(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="first")
    async def first() -> int:
        return 1

    @app.task(name="asks")
    def asks(n: int) -> dict[str, str]:
        workflow = current_job().workflow
        assert workflow is not None and workflow.status() == "running"
        return {name: step.state for name, step in workflow.steps().items()}

    assert await value(app, first.bind() | asks, "w") == {"first": "succeeded", "asks": "running"}
    app.session.close()


async def test_a_member_asks_for_its_workflow_in_a_process(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=SignedPayloads({"k1": b"k" * 32}))
    asks = process_tasks.where_in_its_workflow
    share(app, asks)
    work = group([asks.bind(0), asks.bind(1)]).named("asks")
    async with working(app):
        flow = await work.adelay(id="w")
        assert await flow.aresult(30) == [("asks", 0, "w", "running"), ("asks", 1, "w", "running")]


async def test_a_callback_asks_how_the_work_has_ended(nats_url: str) -> None:
    app = fresh_app(nats_url)
    told: asyncio.Queue[tuple[str | None, str, list[str]]] = asyncio.Queue()

    @app.task(name="fails", max_attempts=1)
    async def fails() -> None:
        raise ValueError("no")

    @app.task(name="tells")
    async def tells() -> None:
        job = current_job()
        assert job.workflow is not None
        failures = (await job.workflow.asteps())["fails"].failures
        await told.put((job.step, await job.workflow.astatus(), [failure.message for failure in failures]))

    async with working(app), asyncio.timeout(20):
        await fails.bind().on_failure(tells.bind()).adelay()
        assert await told.get() == ("tells", "failed", ["no"])


async def test_middleware_knows_the_place_too(nats_url: str) -> None:
    seen: list[Place] = []

    async def notes(job: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append((job.step, job.index, None if job.workflow is None else job.workflow.id))
        return await call_next()

    app = fresh_app(nats_url, middleware=[notes])

    @app.task(name="one")
    async def one(n: int) -> int:
        return n

    assert await value(app, group([one.bind(1), one.bind(2)]).named("pair"), "w") == [1, 2]
    assert sorted(seen, key=str) == [("pair", 0, "w"), ("pair", 1, "w")]


async def test_the_hook_for_expired_jobs_asks_for_the_workflow(nats_url: str) -> None:
    told: asyncio.Queue[tuple[str | None, str]] = asyncio.Queue()

    async def on_expired(job: JobContext) -> None:
        assert job.workflow is not None
        await told.put((job.step, await job.workflow.astatus()))

    app = fresh_app(nats_url, on_expired=on_expired)

    @app.task(name="late", expires=0.01)
    async def late() -> None: ...

    await late.bind().named("too-late").adelay()
    await asyncio.sleep(0.05)  # nobody works meanwhile
    async with working(app), asyncio.timeout(20):
        assert await told.get() == ("too-late", "running")
