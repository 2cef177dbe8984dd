"""Workflows seen from outside: also those that cannot be read, are over, or are closed at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jetq import DefinitionError, Jetq, JobNotFound, SignedPayloads
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import encode_closed
from jetq.model.workflows import names
from jetq.model.workflows.records import Closed, Totals
from jetq.operations.workflows.closing import purge
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import StoredPlan
from jetq.operations.workflows.views import viewing
from jetq.operations.workflows.views.viewing import list_workflows, view_workflow
from tests.apps.fresh import no_app_yet, own_tasks
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio

NONE = Sealer(None)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    yield


def number_of(app: Jetq) -> Any:
    @app.task(name="number")
    async def number(n: int) -> int:
        return n

    return number


async def close(life: Life) -> None:
    """Close a workflow, as its watch does when it has ended."""
    closed = Closed(life=life.id, closed="succeeded", at=life.broker.now(), steps={"number": Totals(1, 1, 0)})
    name = names.plan(life.home, life.workflow)
    assert await life.broker.write_entry(name, encode_closed(closed), expected=life.sequence) is not None
    await purge(life.broker, life.id)


async def test_a_handle_by_id_asks_as_the_one_does_that_was_given(nats_url: str) -> None:
    app = fresh_app(nats_url)
    number = number_of(app)
    flow = await number.bind(7).named("seven").after(number.bind(1)).adelay(id="w")
    by_id = app.workflow("w")
    assert (by_id.id, by_id.disposition, await by_id.astatus()) == ("w", "existing", "running")
    async with working(app):
        assert await by_id.aresult(20) == await flow.aresult(20) == 7
        assert set(await by_id.asteps()) == {"seven", "number"}
        with pytest.raises(JobNotFound):
            await app.workflow("another").astatus()
    with pytest.raises(DefinitionError, match="workflow id"):
        app.workflow("no such id")


async def test_a_workflow_with_a_key_has_an_id_that_is_one(nats_url: str) -> None:
    app = fresh_app(nats_url)
    flow = await number_of(app).bind(7).named("seven").adelay(key="each week: " + "x" * 100)
    assert await app.workflow(flow.id).astatus() == "running"
    await app.session.aclose()


async def test_what_cannot_be_read_is_listed_last_and_hides_nothing(nats_url: str) -> None:
    app = fresh_app(nats_url)
    number = number_of(app)
    await number.bind(1).named("one").adelay(id="plain")
    broker = await app.session.broker()
    await broker.write_entry(names.plan("default", "a-broken"), b"{", expected=0)
    lines = await list_workflows(broker, NONE)
    assert [(line.id, line.state) for line in lines] == [("plain", "running"), ("a-broken", "unreadable")]
    assert [line.id for line in await list_workflows(broker, NONE, state="running")] == ["plain"]
    sealed = await list_workflows(broker, Sealer(SignedPayloads({"k1": b"k" * 32})))
    assert {(line.id, line.state) for line in sealed} == {("plain", "unreadable"), ("a-broken", "unreadable")}
    await app.session.aclose()


async def test_more_workflows_than_are_asked_for_together_are_all_listed(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = fresh_app(nats_url)
    number = number_of(app)
    for n in range(35):
        await number.bind(n).named("one").adelay(id=f"w{34 - n:02}")
    broker = await app.session.broker()
    everything = [f"w{n:02}" for n in range(35)]  # the newest first
    assert [line.id for line in await list_workflows(broker, NONE, limit=100)] == everything
    assert [line.id for line in await list_workflows(broker, NONE, limit=34)] == everything[:34]
    monkeypatch.setattr(viewing, "PLANS_AT_ONCE", 4)
    life, _ = await open_life(broker, NONE, "w09")
    assert life is not None
    await close(life)  # written anew: after all others, and no newer
    assert [line.id for line in await list_workflows(broker, NONE, limit=12)] == everything[:12]
    assert [line.id for line in await list_workflows(broker, NONE, state="succeeded")] == ["w09"]
    running = [id for id in everything if id != "w09"]
    assert [line.id for line in await list_workflows(broker, NONE, state="running", limit=20)] == running[:20]
    await app.session.aclose()


async def test_of_a_workflow_that_is_over_its_steps_are_kept_and_its_plan_is_not(nats_url: str) -> None:
    app = fresh_app(nats_url)
    await number_of(app).bind(1).adelay(id="w")
    broker = await app.session.broker()
    life, _ = await open_life(broker, NONE, "w")
    assert life is not None
    await close(life)
    view = await view_workflow(broker, NONE, "w")
    assert (view.state, view.plan, view.steps["number"].done) == ("succeeded", None, 1)
    assert view.began is not None and view.ended is not None and view.began < view.ended
    (line,) = await list_workflows(broker, NONE)
    assert (line.state, line.done, line.total) == ("succeeded", 1, 1)
    await app.session.aclose()


async def test_a_workflow_that_is_closed_while_it_is_read_is_read_again(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = fresh_app(nats_url)
    await number_of(app).bind(1).adelay(id="w")
    reads: list[StoredPlan] = []

    async def slowly(broker: FlowBroker, sealer: Sealer, workflow: str) -> tuple[Life | None, StoredPlan]:
        life, found = await open_life(broker, sealer, workflow)
        reads.append(found)
        if life is not None:
            await close(life)  # whoever reads the state now finds none, as of a workflow that runs
        return life, found

    monkeypatch.setattr(viewing, "open_life", slowly)
    assert (await view_workflow(await app.session.broker(), NONE, "w")).state == "succeeded"
    assert len(reads) == 2
    await app.session.aclose()


async def test_a_workflow_that_is_gone_meanwhile_is_not_listed(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fresh_app(nats_url)
    number = number_of(app)
    for id in ("goes", "stays"):
        await number.bind(1).adelay(id=id)
    broker = await app.session.broker()

    async def late(broker: FlowBroker, sealer: Sealer, workflow: str) -> tuple[Life | None, StoredPlan]:
        if workflow == "goes":
            await broker.purge_entries(names.plans("goes"))
        return await open_life(broker, sealer, workflow)

    monkeypatch.setattr(viewing, "open_life", late)
    assert [line.id for line in await list_workflows(broker, NONE)] == ["stays"]
    await app.session.aclose()
