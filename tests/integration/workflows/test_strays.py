"""Jobs that say to be members of workflows that are not there: none is lost, and none goes round."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from jetq import Jetq, group
from jetq.client.task import Task
from jetq.encoding.headers import read_meta
from jetq.model.job import JobRecord, Meta, Place
from jetq.model.names import new_life
from tests.apps.fresh import no_app_yet
from tests.apps.working import fresh_app, settled, working
from tests.integration.workflows.flows import Steps, life_of

pytestmark = pytest.mark.anyio

PLACE = Place("weekly", "default", new_life(), "fetch", 0, 1, 1, 4e9, 0, 1.0)


def taking(app: Jetq) -> Task[[int], int]:
    @app.task(name="tests.take")
    async def take(n: int) -> int:
        raise AssertionError("it was run")

    return take


@pytest.mark.parametrize(
    "place",
    [PLACE, replace(PLACE, workflow="é"), replace(PLACE, home="é"), replace(PLACE, step="é"), replace(PLACE, life="é")],
    ids=["no workflow", "workflow", "home", "step", "life"],
)
async def test_a_member_of_nothing_is_dead_with_its_bytes(nats_url: str, place: Place) -> None:
    app = fresh_app(nats_url)
    taking(app)
    broker = await app.session.broker()
    await broker.enqueue(JobRecord("m1", "tests.take", "default", b'{"n":7}', meta=Meta(flow=place)))
    async with working(app):
        await settled(app)
        (entry,) = await (await app.session.broker()).dead("default")
    assert (entry.letter.id, entry.letter.reason, entry.body) == ("m1", "undecodable", b'{"n":7}')
    assert read_meta(entry.letter.headers).flow == place


async def test_a_job_that_claims_a_record_which_is_not_stored_holds_up_nothing(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    no_app_yet(monkeypatch)
    app = fresh_app(nats_url, connect_timeout=0.5)
    steps.hold("a")
    async with working(app):
        flow = await (group(steps.say.bind(word) for word in "ab") | steps.join | steps.after).adelay()
        await steps.until_ran("a")
        life, broker = await life_of(app, flow), await app.session.broker()
        place = Place(flow.id, life.home, life.id, "after", 0, 1, 1, life.plan.deadline, 2**50, 1.0)
        await broker.enqueue(JobRecord(place.job_id, "tests.after", "default", b"{}", meta=Meta(flow=place)))
        async with asyncio.timeout(20):  # until a worker has seen it, and put it off
            while (job := await broker.find("default", place.job_id)) is None or job.state != "scheduled":
                await asyncio.sleep(0.02)
        steps.gates["a"].set()
        assert await flow.aresult(30) == "a+b-after"
        assert steps.ran["join"] == steps.ran["after"] == 1


async def test_a_job_of_another_task_than_the_plan_names_is_no_member(nats_url: str) -> None:
    """Guarantee: who may enqueue one task gives no value to a step of another one."""
    app = fresh_app(nats_url)

    @app.task(name="tests.charge", queue="billing")
    async def charge(n: int) -> int:
        return n

    take = taking(app)
    flow = await charge.bind(7).adelay()
    life = await life_of(app, flow)
    place = Place(flow.id, "billing", life.id, "charge", 0, 1, 1, life.plan.deadline, 0, 4e9)
    broker = await app.session.broker()
    await broker.enqueue(JobRecord(place.job_id, take.name, "default", b'{"n":8}', meta=Meta(flow=place)))
    async with working(app, queues=["default"]):
        broker = await app.session.broker()
        async with asyncio.timeout(60):
            while not (letters := await broker.dead("default")):
                await asyncio.sleep(0.02)
    (entry,) = letters
    assert "has no such member" in entry.letter.failure.message
    async with working(app, queues=["billing"]):
        assert await flow.aresult(60) == 7
