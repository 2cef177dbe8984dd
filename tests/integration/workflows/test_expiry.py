"""Past its deadline a workflow has expired: nothing begins any more, until it is retried with a new deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from jetq import Jetq, JobExpired, group
from jetq.worker.workflows.lives import Lives
from tests.apps.working import share, working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

# Not in memory, where the clock stands still.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("app", ["server", "encrypted"], indirect=True)]


async def test_what_has_not_begun_by_the_deadline_does_not_begin_until_a_retry(app: Jetq, steps: Steps) -> None:
    steps.hold("a")
    work = steps.called_back(group(steps.say.bind(word) for word in "abc") | steps.join)
    async with working(app, concurrency=1):
        flow = await work.adelay(expires=1.0)
        await steps.until_ran("a")
        await pause_until(await life_of(app, flow))
        steps.gates["a"].set()
        await until_status(flow, "expired")
        with pytest.raises(JobExpired):
            await flow.aresult(5)
        await steps.until_ran("failure", "end")
        await quiet(app)
        assert steps.ran == {"a": 1, "failure": 1, "end": 1}

        assert await flow.aretry(expires=60) == 0  # nothing has failed, but what was dropped is stored again
        assert await flow.aresult(20) == "a+b+c"
        await steps.until_ran("end", times=2)
    assert steps.ran == {"a": 1, "b": 1, "c": 1, "join": 1, "failure": 1, "end": 2}


async def test_without_a_member_that_comes_the_watch_sees_the_deadline_pass(app: Jetq, steps: Steps) -> None:
    steps.hold("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay(expires=1.0)
        await until_status(flow, "expired")
        await steps.until_ran("failure", "end")
        steps.gates["a"].set()  # its value is kept, and nothing follows
        await quiet(app)
        assert await flow.astatus() == "expired"
        assert steps.ran == {"a": 1, "failure": 1, "end": 1}
        assert await flow.aretry() == 0
        assert await flow.aresult(20) == "a-after"
        assert (await life_of(app, flow)).plan.deadline > (await app.session.broker()).now() + 86_400
    assert steps.ran["a"] == 1


async def test_a_retry_days_after_the_deadline_runs_what_failed(app: Jetq, steps: Steps) -> None:
    steps.broken.add("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay(expires=1.0)
        await until_status(flow, "failed")
        await steps.until_ran("end")
        await pause_until(await life_of(app, flow))
        steps.broken.clear()
        assert await flow.aretry() == 1
        assert await flow.aresult(20) == "a-after"
    assert steps.ran["a"] == 2


async def test_a_worker_that_was_not_told_of_the_new_deadline_reads_it(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(app):
        steps.hold("b")
        flow = await (steps.say.bind("b") | steps.after).adelay(expires=60)
        await steps.until_ran("b")
        life = await life_of(app, flow)
        get, known = Lives.get, replace(life.plan, deadline=1.0)

        async def remembered(self: Lives, place: Any) -> Any:
            found = await get(self, place)
            if found is not None and found.plan.deadline != 1.0:
                found.plan = known
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Lives, "get", remembered)
            steps.gates["b"].set()
            assert await flow.aresult(20) == "b-after"


async def pause_until(life: Any) -> None:
    """Until the deadline of the workflow has passed."""
    while life.broker.now() <= life.plan.deadline:
        await asyncio.sleep(0.05)


async def test_each_worker_is_told_that_the_workflow_goes_on(app: Jetq, steps: Steps, nats_url: str) -> None:
    """The second worker knows the workflow as expired, and would drop what the first one lets follow."""
    other = Jetq(nats_url, namespace=app.settings.namespace, payloads=app.payloads)
    share(other, steps.say, steps.after)
    steps.hold("a")
    work = steps.say.bind("a") | steps.after.options(queue="other")
    async with working(app, queues=["default"]), working(other, queues=["other"]):
        flow = await work.on_failure(steps.say.options(queue="other").bind("failure")).adelay(expires=1.0)
        await steps.until_ran("a", "failure")
        assert await flow.aretry(expires=60) == 0
        steps.gates["a"].set()
        assert await flow.aresult(5) == "a-after"
