"""Waiting for the value of a workflow: its end is told, and looked for only should it not be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq import Jetq, JobCancelled, ResultTimeout, TaskFailed, group
from jetq.broker import Broker
from jetq.encoding.sealer import Sealer
from jetq.model.cell import LedgerEntry
from jetq.operations.workflows import handling
from tests.apps.working import working
from tests.integration.workflows.flows import Steps, quiet

pytestmark = pytest.mark.anyio


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks a second time: what is not told is not noticed."""
    monkeypatch.setattr(handling, "OFTENEST", 3_600.0)
    monkeypatch.setattr(handling, "RAREST", 3_600.0)


@pytest.mark.usefixtures("told")
async def test_all_who_wait_are_told_of_the_value(app: Jetq, steps: Steps) -> None:
    """Guarantee: a value reaches who waits for it without a second look."""
    gate = steps.hold("a")
    async with working(app):
        single = await (steps.say.bind("a") | steps.after).adelay()
        listed = await group([steps.say.bind("a"), steps.say.bind("b")]).adelay()
        waiting = [asyncio.create_task(flow.aresult(60)) for flow in (single, listed, single)]
        threads = asyncio.create_task(asyncio.to_thread(single.result, 60))
        await steps.until_ran("a", times=2)
        gate.set()
        assert await asyncio.gather(*waiting) == ["a-after", ["a", "b"], "a-after"]
        assert await threads == "a-after"
    await asyncio.to_thread(app.session.close)  # of the thread that waited


@pytest.mark.usefixtures("told")
async def test_all_who_wait_are_told_of_a_failure_and_of_a_cancel(app: Jetq, steps: Steps) -> None:
    gate = steps.hold("a")
    steps.broken.add("a")
    async with working(app):
        failing = await (steps.say.bind("a") | steps.after).adelay()
        waiting = asyncio.create_task(failing.aresult(60))
        await steps.until_ran("a")
        gate.set()
        with pytest.raises(TaskFailed, match="a is broken"):
            await waiting
        steps.hold("b")
        stopped = await steps.say.bind("b").adelay(id="stopped")
        waiting = asyncio.create_task(stopped.aresult(60))
        await steps.until_ran("b")
        assert await stopped.acancel() == "cancelled"
        with pytest.raises(JobCancelled):
            await waiting
        await quiet(app)


async def test_an_end_that_was_not_told_is_looked_for(app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "OFTENEST", 0.05)
    gate = steps.hold("a")
    async with working(app):
        flow = await steps.say.bind("a").adelay()
        broker = await app.session.broker()
        asked = asyncio.Event()

        async def deaf(where: str, timeout: float) -> LedgerEntry | None:
            entry = await broker.read_entry(where, surely=True)
            asked.set()
            if entry is None:
                await asyncio.sleep(timeout)
            return entry

        unheard: Any = _Deaf(broker, deaf)
        waiting = asyncio.create_task(handling.wait_for_value(unheard, Sealer(app.payloads), flow.id, 60))
        await asked.wait()
        gate.set()
        assert await waiting == b'"a"'


async def test_a_wait_ends_when_its_time_is_over(app: Jetq, steps: Steps) -> None:
    steps.hold("a")
    async with working(app):
        flow = await steps.say.bind("a").adelay()
        for timeout in (0, 0.05):
            with pytest.raises(ResultTimeout, match=f"{flow.id} is still running after {timeout:g} s"):
                await flow.aresult(timeout)
        await flow.acancel()


class _Deaf:
    """A broker that does not tell of entries."""

    def __init__(self, broker: Broker, wait_entry: Any) -> None:
        self._broker = broker
        self.wait_entry = wait_entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)
