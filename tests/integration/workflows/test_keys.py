"""A key: one workflow at a time, and the next one as soon as that has ended, which does all that it has to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq import Jetq
from jetq.broker import Broker
from jetq.encoding.workflows import encode_closed
from jetq.model.workflows import names
from jetq.model.workflows.records import Closed, Totals
from jetq.operations.workflows.creating import WATCH
from tests.apps.working import working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

pytestmark = pytest.mark.anyio


async def until_cleared_up(app: Jetq) -> None:
    """Let the watches take their turns until none is left."""
    broker = await app.session.broker()
    async with asyncio.timeout(20):
        while jobs := [*await watches(broker, "default"), *await watches(broker, "other")]:
            for job in jobs:
                if job.due is not None:
                    await broker.release(job)
            await asyncio.sleep(0.05)
    assert not (await broker.standing_entries("flow.>")).names


async def watches(broker: Broker, queue: str) -> list[Any]:
    return [job for job in await broker.stored_jobs(queue) if job.delivery.task == WATCH]


async def test_a_cancelled_workflow_calls_back_also_if_the_next_one_is_stored_at_once(app: Jetq, steps: Steps) -> None:
    steps.hold("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a")).adelay(key="weekly")
        await steps.until_ran("a")
        await flow.acancel()
        other = await steps.called_back(steps.say.bind("b")).adelay(key="weekly")
        assert other.disposition == "stored"
        assert await other.aresult(20) == "b"
        await steps.until_ran("end", times=2)
        await quiet(app)
        await until_cleared_up(app)
    assert steps.ran == {"a": 1, "b": 1, "end": 2}


async def test_callbacks_that_wait_run_although_the_next_one_was_stored_meanwhile(app: Jetq, steps: Steps) -> None:
    """Of two lives that have ended, one has failed and one was cancelled."""
    steps.broken.add("a")
    steps.hold("b")
    say = steps.say.options(queue="other")
    async with working(app, queues=["default", "other"]):
        broker = await app.session.broker()
        await broker.pause("other")
        for word in "abc":
            work = steps.say.bind(word).on_failure(say.bind(f"{word}-failed")).finally_(say.bind(f"{word}-ended"))
            flow = await work.adelay(key="weekly")
            assert flow.disposition == "stored"
            await steps.until_ran(word)
            if word == "a":
                await until_status(flow, "failed")
            if word == "b":
                await flow.acancel()
        assert await flow.aresult(20) == "c"
        await broker.resume("other")
        await steps.until_ran("a-failed", "a-ended", "b-ended", "c-ended")
        await quiet(app)
        await until_cleared_up(app)
        assert await flow.aresult(20) == "c"
    assert steps.ran == dict.fromkeys(["a", "b", "c", "a-failed", "a-ended", "b-ended", "c-ended"], 1)


async def test_one_that_is_closed_at_this_moment_is_no_existing_one(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(app):
        flow = await steps.say.bind("a").adelay(key="weekly")
        assert await flow.aresult(20) == "a"
        await quiet(app)
        broker, life = await app.session.broker(), await life_of(app, flow)
        enqueue = broker.enqueue

        async def meanwhile(*arguments: Any, **keywords: Any) -> Any:
            closed = Closed(life=life.id, closed="succeeded", at=broker.now(), steps={"say": Totals(1, 1, 0)})
            name = names.plan(life.home, life.workflow)
            assert await broker.write_entry(name, encode_closed(closed), expected=life.sequence)
            patch.undo()
            return await enqueue(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(broker, "enqueue", meanwhile)
            other = await steps.say.bind("b").adelay(key="weekly")
        assert other.disposition == "stored"
        assert await other.aresult(20) == "b"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_of_one_that_began_in_another_queue_no_plan_is_left(app: Jetq, steps: Steps, end: str) -> None:
    """Once the second one is not kept any more, the first one would be found, and as one that runs for ever."""
    if end == "failed":
        steps.broken.add("a")
    else:
        steps.hold("a")
    async with working(app, queues=["default", "other"]):
        flow = await steps.say.bind("a").finally_(steps.say.bind("end")).adelay(key="weekly")
        if end == "failed":
            await until_status(flow, "failed")
        else:
            await steps.until_ran("a")
            await flow.acancel()
        other = await steps.say.options(queue="other").bind("b").adelay(key="weekly")
        assert (other.disposition, await other.aresult(20)) == ("stored", "b")
        await steps.until_ran("end")
        await quiet(app)
        await until_cleared_up(app)
        broker = await app.session.broker()
        assert list((await broker.standing_entries("plan.>")).names) == [names.plan("other", other.id)]
