"""A job of a workflow, asked by its own id: its mark says how it ended, where other jobs leave a result."""

from __future__ import annotations

import pytest

from jetq import Failure, Jetq, JobNotFound, TaskFailed, each, group
from jetq.model.workflows import names
from jetq.operations.workflows.marking import mark_failure
from tests.apps.working import working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

pytestmark = pytest.mark.anyio


async def test_a_step_gives_its_value_by_the_id_of_its_job(app: Jetq, steps: Steps) -> None:
    flow = await (each(steps.say, ["a", "b"]) | steps.join).adelay()
    life = await life_of(app, flow)
    async with working(app):
        assert await flow.aresult(60) == "a+b"
        for member, value in enumerate(["a", "b"]):
            job = app.job(f"{life.id}:say:{member}")
            assert (await job.aresult(60), await job.astatus()) == (value, "succeeded")
            await job.await_(60)
        last = app.job(f"{life.id}:join:0")
        assert (await last.aresult(60), await last.astatus()) == ("a+b", "succeeded")
    for strange in (f"{life.id}:say:2", f"{life.id}:other:0", f"{life.id}:join:1"):
        with pytest.raises(JobNotFound, match=f"nothing is known of job {strange}"):
            await app.job(strange).aresult(60)


async def test_in_groups_of_groups_too(app: Jetq, steps: Steps) -> None:
    flow = await group(group(steps.say.bind(f"{row}{n}") for n in range(row)) | steps.join for row in (1, 3)).adelay()
    life = await life_of(app, flow)
    async with working(app):
        await until_status(flow, "succeeded")
        assert [await app.job(f"{life.id}:say:{member}").aresult(60) for member in range(4)] == ["10", "30", "31", "32"]


async def test_one_that_failed_raises_what_it_raised(app: Jetq, steps: Steps) -> None:
    steps.broken.add("b")
    flow = await (each(steps.say, ["a", "b"]) | steps.join).adelay()
    life = await life_of(app, flow)
    async with working(app):
        await until_status(flow, "failed")
        await quiet(app)
        with pytest.raises(ValueError, match="b is broken"):
            await app.job(f"{life.id}:say:1").aresult(60)
        with pytest.raises(JobNotFound, match="its turn has not come"):
            await app.job(f"{life.id}:join:0").aresult(60)


async def test_one_that_failed_without_a_run_says_so(app: Jetq, steps: Steps) -> None:
    flow = await (steps.say.bind("a") | steps.after).adelay()
    life = await life_of(app, flow)
    assert await mark_failure(life, Failure("after", 0, "forbidden", "", "not allowed")) == "bad"
    job = app.job(f"{life.id}:after:0")
    assert await job.astatus() == "dead"
    with pytest.raises(TaskFailed, match="the step of its workflow has failed"):
        await job.aresult(60)


async def test_a_job_that_waits_says_where_it_belongs(app: Jetq, steps: Steps) -> None:
    flow = await steps.say.bind("a").named("first").adelay(id="w", delay=3_600)
    life = await life_of(app, flow)
    view = await app.job(f"{life.id}:first:0").ainfo()
    assert view.place is not None
    assert (view.place.workflow, view.place.step, view.place.member) == ("w", "first", 0)
    assert names.mark_by_number(life.id, "first", 0) == f"flow.{life.id}.mark.first.*.0.*"
