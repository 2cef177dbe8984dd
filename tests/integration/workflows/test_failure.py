"""A member that fails says why, the workflow fails at once and calls back once; what tolerates the failure goes on."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from msgspec import Struct

from jetq import Failure, Jetq, Reject, TaskFailed, each, group, task
from jetq.client.workflows.workflow import StepView
from jetq.encoding.sealer import Sealer
from jetq.operations.cancel import cancel
from jetq.operations.workflows.creating import watch_job
from jetq.operations.workflows.watching import Turn, take_turn
from tests.apps.working import share, working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

pytestmark = pytest.mark.anyio


async def test_the_first_failure_fails_the_workflow_and_the_others_go_on(app: Jetq, steps: Steps) -> None:
    steps.broken |= {"a", "b"}
    steps.hold("b"), steps.hold("c")
    async with working(app):
        flow = await steps.called_back(group(steps.say.bind(word) for word in "abc") | steps.join).adelay()
        with pytest.raises(TaskFailed, match=r"step say: builtins\.ValueError: a is broken"):
            await flow.aresult(20)
        assert await flow.astatus() == "failed"
        await steps.until_ran("failure", "end")
        for word in "bc":
            steps.gates[word].set()
        await quiet(app)
        view = (await flow.asteps())["say"]
        assert (view.state, view.done, view.failed, view.total) == ("failed", 1, 2, 3)
        assert [(each.index, each.message) for each in view.failures] == [(0, "a is broken"), (1, "b is broken")]
        assert (await flow.asteps())["join"].state == "waiting"
    assert steps.ran == {"a": 1, "b": 1, "c": 1, "failure": 1, "end": 1}


@task(name="tests.slow", max_attempts=1, timeout=0.1)
async def slow() -> str:
    await asyncio.sleep(60)
    return ""


@task(name="tests.rejects")
async def rejects() -> str:
    raise Reject("never")


@task(name="tests.number")
async def number(n: int) -> int:
    return n


@task(name="tests.add_up")
async def add_up(numbers: list[int]) -> int:
    return sum(numbers)


@task(name="tests.pair")
async def pair() -> Any:
    return ["five", "six"]


@pytest.fixture
def others(app: Jetq, steps: Steps) -> None:
    """The tasks above, among those of the test."""
    share(app, slow, rejects, number, add_up, pair)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("reason", "text"), [("timeout", "its timeout"), ("rejected", "never"), ("bad-arguments", "n")]
)
async def test_a_failure_says_its_reason(app: Jetq, steps: Steps, reason: str, text: str) -> None:
    works: dict[str, Any] = {
        "timeout": slow.bind(),
        "rejected": rejects.bind(),
        "bad-arguments": number.bind(steps.say.bind("five").out),
    }
    await fails_by(app, steps, works[reason], reason, text)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("whole", "n: expected int, got str; n takes the value of step say"),
        ("element", "numbers[1]: expected int, got str; numbers takes the value of step say"),
        ("item", "n: expected int, got str; n takes an item of the value of step pair"),
    ],
)
async def test_arguments_that_do_not_fit_say_of_which_step_they_are(
    app: Jetq, steps: Steps, name: str, ending: str
) -> None:
    works: dict[str, Any] = {
        "whole": number.bind(steps.say.bind("five").out),
        "element": add_up.bind([number.bind(1).out, steps.say.bind("five").out]),
        "item": each(number, pair.bind().out),
    }
    flow = await works[name].named("one").adelay()
    async with working(app):
        await until_status(flow, "failed")
        await quiet(app)
        failure = (await flow.asteps())["one"].failures[0]
    assert failure.reason == "bad-arguments"
    assert failure.message.endswith(ending)


@pytest.mark.parametrize("app", ["server", "encrypted"], indirect=True)  # in memory the clock stands still
async def test_a_member_that_expired_has_failed(app: Jetq, steps: Steps) -> None:
    await fails_by(app, steps, steps.say.options(expires=0.001).bind("late"), "expired", "expired")
    assert "late" not in steps.ran


async def fails_by(app: Jetq, steps: Steps, work: Any, reason: str, text: str) -> None:
    """Run `work`, which fails, in a workflow that fails by it, and in one that tolerates it."""
    flow = await steps.called_back(work.named("one")).adelay()
    tolerant = await group([work.named("one")]).settled().adelay()
    async with working(app):
        await until_status(flow, "failed")
        await steps.until_ran("failure", "end")
        (failure,) = (await flow.asteps())["one"].failures
        assert (failure.step, failure.index, failure.reason) == ("one", 0, reason)
        assert text in failure.message
        (tolerated,) = await tolerant.aresult(20)
        assert tolerated == failure
        await quiet(app)
        assert (steps.ran["failure"], steps.ran["end"]) == (1, 1)


class Page(Struct):
    url: str


@task(name="tests.fetch", max_attempts=1)
async def fetch(url: str) -> Page:
    if url == "b":
        raise ValueError("no page")
    return Page(url)


@task(name="tests.told")
async def told(pages: list[Page | Failure]) -> list[Page | Failure]:
    assert [type(page) for page in pages] == [Page, Failure, Page]
    return pages


async def test_what_is_settled_has_failures_beside_objects(app: Jetq, steps: Steps) -> None:
    share(app, fetch, told)
    async with working(app):
        flow = await (each(fetch, ["a", "b", "c"]).settled() | told).adelay()
        failure = Failure("fetch", 1, "failed", "builtins.ValueError", "no page")
        assert await flow.aresult(20) == [Page("a"), failure, Page("c")]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_member_that_is_cancelled_by_its_own_id_has_failed(app: Jetq, steps: Steps, waits: bool) -> None:
    steps.hold("a"), steps.hold("other")
    async with working(app, concurrency=1):
        if waits:
            await steps.say.adelay("other")
            await steps.until_ran("other")
        flow = await steps.called_back(steps.say.bind("a")).adelay()
        life = await life_of(app, flow)
        if not waits:
            await steps.until_ran("a")
        broker = await app.session.broker()
        assert await cancel(broker, "default", f"{life.id}:say:0") == ("removed" if waits else "stopped")
        steps.gates["other"].set()
        if waits:  # nobody but the watch can find out, when the workers have forgotten
            await broker.unmark_cancelled("default", f"{life.id}:say:0")
            place = watch_job(life).meta.flow
            assert place is not None
            await take_turn(broker, Sealer(app.payloads), place, Turn(), broker.now())
        await until_status(flow, "failed")
        await steps.until_ran("failure", "end")
        (failure,) = (await flow.asteps())["say"].failures
        assert failure.reason == "cancelled"
        assert steps.ran["a"] == (not waits)
        steps.gates["a"].set()
        assert await flow.aretry() == 1
        assert await flow.aresult(20) == "a"


async def test_watch_shows_each_change_up_to_the_end(app: Jetq, steps: Steps) -> None:
    gates = [steps.hold("a"), steps.hold("after")]
    async with working(app):
        flow = await (steps.say.bind("a") | steps.after).adelay()
        await steps.until_ran("a")
        seen: list[dict[str, StepView]] = []
        async with asyncio.timeout(20):
            async for views in flow.watch():
                seen.append(dict(views))
                if gates and sum(view.done for view in views.values()) == 2 - len(gates):
                    gates.pop(0).set()
    states = [(views["say"].state, views["after"].state) for views in seen]
    assert states[0] == ("running", "waiting")
    assert ("succeeded", "running") in states
    assert states[-1] == ("succeeded", "succeeded")
    assert all(one != other for one, other in pairwise(seen))
