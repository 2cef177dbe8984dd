"""Callbacks are called once for each end of a workflow, and those of an earlier end are not taken for them."""

from __future__ import annotations

import pytest

from jetq import Jetq
from jetq.client.workflows.workflow import Workflow
from jetq.operations.workflows.creating import watch_job
from jetq.operations.workflows.watching import Turn, take_turn
from tests.apps.working import working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

pytestmark = pytest.mark.anyio


async def test_a_callback_that_fails_leaves_its_letter_and_is_not_called_again(app: Jetq, steps: Steps) -> None:
    steps.broken |= {"a", "failure"}
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
        await steps.until_ran("failure", "end")
        await quiet(app)
        assert await flow.astatus() == "failed"
        steps.broken.clear()
        assert await flow.aretry() == 1
        assert await flow.aresult(20) == "a-after"
        await steps.until_ran("end", times=2)
        letters = await (await app.session.broker()).dead("default")
    assert [each.letter.id.split(":")[1] for each in letters] == ["say-2"]
    assert steps.ran == {"a": 2, "after": 1, "failure": 1, "end": 2}


async def test_a_callback_that_runs_goes_on(app: Jetq, steps: Steps) -> None:
    steps.broken.add("a")
    steps.hold("failure")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a")).adelay()
        await steps.until_ran("failure", "end")
        assert await flow.acancel() == "cancelled"
        steps.broken.add("b")  # whose failure comes to the worker after the signal
        other = await steps.say.bind("b").adelay()
        await until_status(other, "failed")
        steps.gates["failure"].set()
        await quiet(app)
        assert steps.done == {"failure": 1, "end": 1}


async def test_one_that_still_runs_when_the_workflow_is_retried_is_called_again(app: Jetq, steps: Steps) -> None:
    steps.broken.add("a")
    steps.hold("failure")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a")).adelay()
        await steps.until_ran("failure", "end")
        await quiet(app, held=1)  # a job of "end" that is still stored would be the one that the watch calls anew
        assert await flow.aretry() == 1  # and fails again
        await steps.until_ran("end", times=2)
        await until_status(flow, "failed")
        views = await flow.asteps()
        assert (views["say-2"].state, views["say-2"].done) == ("running", 0)
        steps.gates["failure"].set()
        await quiet(app)
        assert steps.done["failure"] == 1
        await watched(app, flow)
        await steps.until_ran("failure", times=2)
        await quiet(app)
        assert (await flow.asteps())["say-2"].state == "succeeded"
        await watched(app, flow)
        await quiet(app)
    assert steps.ran == {"a": 2, "failure": 2, "end": 2}


async def watched(app: Jetq, flow: Workflow[str]) -> None:
    """Take a turn of the watch."""
    life, broker = await life_of(app, flow), await app.session.broker()
    place = watch_job(life).meta.flow
    assert place is not None
    await take_turn(broker, life.sealer, place, Turn(), broker.now())


async def test_what_is_not_called_and_what_never_began_are_shown_as_such(app: Jetq, steps: Steps) -> None:
    steps.hold("a")
    async with working(app):
        work = steps.called_back((steps.say.bind("a") | steps.after).named("after"))
        flow = await work.adelay()
        await steps.until_ran("a")
        assert {name: view.state for name, view in (await flow.asteps()).items()} == {
            "say": "running", "after": "waiting", "say-2": "waiting", "say-3": "waiting",
        }  # fmt: skip
        assert await flow.acancel() == "cancelled"
        await steps.until_ran("end")
        await quiet(app)
        assert {name: view.state for name, view in (await flow.asteps()).items()} == {
            "say": "cancelled", "after": "cancelled", "say-2": "cancelled", "say-3": "succeeded",
        }  # fmt: skip
