"""A workflow is cancelled or has its value, never both; what waits is not started, and what runs is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from jetq import Jetq, JobCancelled, group
from jetq.errors import JobNotFound
from jetq.operations.workflows import cancelling
from tests.apps.working import working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

pytestmark = pytest.mark.anyio


async def test_what_runs_is_cancelled_what_waits_is_dropped_and_finally_is_called(app: Jetq, steps: Steps) -> None:
    steps.hold("a"), steps.hold("b")
    work = group(steps.say.bind(word) for word in "abcd") | steps.join
    work = work.on_failure(steps.say.bind("failure")).finally_(steps.say.bind("end"))
    async with working(app, concurrency=2):
        flow = await work.adelay()
        await steps.until_ran("a", "b")
        assert await flow.acancel() == "cancelled"
        await steps.until_ran("end")  # although nobody opens the gates
        assert await flow.astatus() == "cancelled"
        with pytest.raises(JobCancelled):
            await flow.aresult(5)
        assert await flow.acancel() == "cancelled"
        broker = await app.session.broker()
        async with asyncio.timeout(10):
            while any(info.ready or info.running for info in await broker.queues()):
                await asyncio.sleep(0.05)
    assert steps.ran == {"a": 1, "b": 1, "end": 1}


async def test_what_runs_is_cancelled_also_if_the_watch_has_closed_its_workflow_before(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is called back, so that the watch closes the workflow at once, and the worker hears late."""
    tell = cancelling.tell

    async def later(*_: object) -> None: ...

    monkeypatch.setattr(cancelling, "tell", later)
    steps.hold("a")
    async with working(app):
        flow = await steps.say.bind("a").adelay()
        await steps.until_ran("a")
        life, broker = await life_of(app, flow), await app.session.broker()
        assert await flow.acancel() == "cancelled"
        async with asyncio.timeout(60):
            while not (plan := await broker.read_entry(f"plan.*.{flow.id}", surely=True)) or b"closed" not in plan.body:
                await asyncio.sleep(0.02)
        await tell(broker, life)
        await quiet(app)
    assert not steps.done["a"]


async def test_a_workflow_that_nobody_has_begun_is_cancelled_before_its_time(app: Jetq, steps: Steps) -> None:
    flow = await (steps.say.bind("a") | steps.after).finally_(steps.say.bind("end")).adelay(delay=3600)
    assert await flow.acancel() == "cancelled"
    async with working(app):
        await steps.until_ran("end")
    assert steps.ran == {"end": 1}


async def test_a_workflow_that_is_over_is_finished(app: Jetq, steps: Steps) -> None:
    async with working(app):
        flow = await steps.say.bind("a").adelay()
        assert await flow.aresult(20) == "a"
        assert await flow.acancel() == "finished"
        assert (await flow.astatus(), await flow.aresult(5)) == ("succeeded", "a")


async def test_a_workflow_that_has_failed_is_cancelled_and_not_failed_any_more(app: Jetq, steps: Steps) -> None:
    steps.broken.add("a")
    async with working(app):
        flow = await steps.say.bind("a").adelay()
        await until_status(flow, "failed")
        assert await flow.acancel() == "cancelled"
        assert await flow.astatus() == "cancelled"


async def test_a_worker_that_was_not_told_begins_no_member_that_it_has_not_looked_at(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None: ...

    monkeypatch.setattr(cancelling, "tell", deaf)
    flow = await (steps.say.bind("a") | steps.after).adelay()
    await flow.acancel()
    async with working(app):
        await quiet(app)
    assert not steps.ran


async def test_against_the_last_value_there_is_one_end_and_it_is_told_right(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Together(await app.session.broker(), monkeypatch)
    async with working(app, concurrency=20):
        ends = []
        for number in range(50):
            together.first = "end" if number % 2 else "stop"
            gate = steps.hold(str(number))
            flow = await steps.say.bind(str(number)).adelay()
            await steps.until_ran(str(number))
            gate.set()
            told = await flow.acancel()
            ends.append(told)
            if told == "finished":
                assert (await flow.aresult(5), await flow.astatus()) == (str(number), "succeeded")
            else:
                with pytest.raises(JobCancelled):
                    await flow.aresult(5)
                await quiet(app)
                assert await flow.astatus() == "cancelled"
    assert Counter(ends) == {"cancelled": 25, "finished": 25}


class Together:
    """Lets the value and the stop of a workflow be written at one instant, each by who has seen no other; the one that
    is `first` is sent first."""

    def __init__(self, broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first = "end"
        self._write = broker.write_entry
        self._met: dict[str, dict[str, asyncio.Event]] = {}
        monkeypatch.setattr(broker, "write_entry", self.write_entry)

    async def write_entry(self, name: str, body: bytes, **keywords: Any) -> int | None:
        _, life, kind, *rest = name.split(".")
        if kind == "state":
            met = self._met.setdefault(life, {"end": asyncio.Event(), "stop": asyncio.Event()})
            met[rest[0]].set()
            await asyncio.gather(*(each.wait() for each in met.values()))
            if rest[0] != self.first:
                await asyncio.sleep(0)  # behind the other one on the same connection
        written: int | None = await self._write(name, body, **keywords)
        return written


async def test_nobody_is_cancelled_who_was_never_stored(app: Jetq, steps: Steps) -> None:
    flow = await steps.say.bind("a").adelay()
    flow.id = "another"
    with pytest.raises(JobNotFound, match="another"):
        await flow.acancel()
    await app.session.aclose()
