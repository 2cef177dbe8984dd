"""A member ends when its workflow is closed already, and all its records are removed: what it leaves does not stay."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from jetq import Jetq, task
from jetq.broker import Broker
from jetq.operations.workflows import cancelling
from jetq.operations.workflows.creating import WATCH
from tests.apps.working import working
from tests.integration.workflows.flows import Steps, quiet

pytestmark = pytest.mark.anyio


async def records(broker: Broker) -> list[str]:
    return list((await broker.standing_entries("flow.>")).names)


async def until_closed(broker: Broker) -> None:
    """Until the watch is gone, which clears up as the last thing that it does."""
    async with asyncio.timeout(20):
        while await records(broker) or any(job.delivery.task == WATCH for job in await broker.stored_jobs("default")):
            await asyncio.sleep(0.02)


async def test_a_cancelled_member_that_takes_its_time_leaves_nothing(app: Jetq, steps: Steps) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    @task(name="tests.tidy", max_attempts=1)
    async def tidy() -> str:
        begun.set()
        try:
            return await asyncio.Event().wait() and ""
        finally:
            await may_end.wait()

    async with working(app):
        flow = await (tidy.bind() | steps.after).adelay()
        broker = await app.session.broker()
        await asyncio.wait_for(begun.wait(), 20)
        await flow.acancel()
        await until_closed(broker)
        may_end.set()
        await quiet(app)
        assert await records(broker) == []
        assert await flow.astatus() == "cancelled"


@pytest.mark.parametrize("last", [True, False], ids=["last step", "first step"])
async def test_a_member_that_cannot_be_cancelled_leaves_nothing(app: Jetq, steps: Steps, last: bool) -> None:
    begun, may_end = threading.Event(), threading.Event()

    @task(name="tests.in_thread", max_attempts=1)
    def in_thread() -> str:
        begun.set()
        may_end.wait(20)
        return "value"

    async with working(app):
        work: Any = in_thread.bind()
        flow = await (work if last else work | steps.after).adelay()
        broker = await app.session.broker()
        await asyncio.to_thread(begun.wait, 20)
        await flow.acancel()
        await until_closed(broker)
        may_end.set()
        await quiet(app)
        assert await records(broker) == []
        assert (await flow.astatus(), steps.ran) == ("cancelled", {})


async def test_what_runs_is_cancelled_also_when_another_workflow_has_its_key_by_then(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, told = cancelling.tell, list[Any]()

    async def later(*whom: Any) -> None:
        told.append(whom)

    steps.hold("a")  # for good
    async with working(app):
        flow = await steps.say.bind("a").adelay(key="weekly")
        await steps.until_ran("a")
        with monkeypatch.context() as patch:
            patch.setattr(cancelling, "tell", later)
            await flow.acancel()
        other = await steps.say.bind("b").adelay(key="weekly")
        assert other.disposition == "stored"
        await tell(*told[0])
        await quiet(app)
        assert await other.aresult(20) == "b"
    assert (steps.ran, steps.done) == ({"a": 1, "b": 1}, {"b": 1})
