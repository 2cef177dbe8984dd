"""Creating a workflow: the plan is stored last of all that it needs, and storing it creates the workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from jetq.broker.queues import Queues
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import encode_plan, write_bodies
from jetq.errors import BrokerError, Denied
from jetq.model.job import JobRecord, Meta, Place
from jetq.model.workflows import names
from jetq.model.workflows.evaluate import evaluate
from jetq.model.workflows.marks import Marks
from jetq.model.workflows.plan import Plan, Step
from jetq.operations.workflows.acting import act
from jetq.operations.workflows.allowing import allow
from jetq.operations.workflows.life import KEPT_FOR, FlowBroker, Life
from jetq.operations.workflows.lives import StoredPlan, find_plan
from jetq.operations.workflows.states import state_of

__all__ = ["BUILT_IN", "FIRST_TURN", "START", "WATCH", "CreateBroker", "Created", "create", "home_of", "watch_job"]

WATCH = "jetq.watch"
"""The name of the task whose job watches over a workflow. Each worker has it, and it runs no code of the app."""

START = "jetq.start"
"""The name of the task whose job starts a workflow at a time of a schedule. Each worker has it too."""

BUILT_IN = frozenset({WATCH, START})
"""The tasks that each worker has, and no app."""

FIRST_TURN = 30.0
"""Seconds after which the watch looks at a new workflow for the first time."""

_SOON = 0.1
"""Seconds after which the watch does what the creator has no permission for."""

_AFTER_DEADLINE = 0.5
"""Seconds after the deadline at which the watch says that it has passed."""


class CreateBroker(FlowBroker, Queues, Protocol):
    """The parts of the broker that a creation uses."""


class Created(Struct, frozen=True):
    """What a creation did: it stored a workflow, or found one of that id."""

    life: str
    disposition: Literal["stored", "existing"]


async def create(
    broker: CreateBroker,
    sealer: Sealer,
    workflow: str,
    plan: Plan,
    bodies: Mapping[str, Sequence[bytes]],
    *,
    fresh: bool = False,
    anew: bool = False,
) -> Created:
    """Store the workflow `workflow`, and start it. An existing one of that id is left alone, unless `anew` is given and
    it has ended.

    bodies: the arguments of the members of a step, where each has its own. fresh: the id was made for this workflow, so
    that there is none. Whoever dies before the plan is stored leaves nothing that runs, and what was left is cleared
    up; who dies after it leaves a workflow that runs. Raises what an enqueue raises, if the plan is not stored, and
    Denied if the plan names a task of a queue for which the NATS user may not plan.

    Guarantee: tests/faults/test_flow_crashes.py: a creator that dies at any step leaves a workflow that runs, or
    nothing.
    """
    home = home_of(plan.steps)
    life = Life(broker, sealer, workflow, home, plan, actor="its creator")
    found = None if fresh else await find_plan(broker, sealer, workflow)
    if found is not None and not (anew and await _is_over(broker, sealer, found)):
        return Created(found.life, "existing")
    # The watch first: whatever is stored after it is cleared up by it.
    await broker.enqueue(watch_job(life), due=min(broker.now() + FIRST_TURN, plan.deadline + _AFTER_DEADLINE))
    await _store_allowances(life)
    await _store_pages(life, bodies)
    while not await _store_plan(life, found):
        before, found = found, await find_plan(broker, sealer, workflow)
        if found is None and before is None:
            raise BrokerError(f"workflow {workflow} was refused, and none of that id stands", hint="try again")
        if found is not None and found.life == plan.life:  # its own, whose answer was lost
            life.saw(found.sequence)
            break
        # One that has ended may have been closed meanwhile.
        if found is not None and not (anew and await _is_over(broker, sealer, found)):
            return Created(found.life, "existing")
    else:
        life.unfed.update(plan.steps)
    life.bodies = bodies
    # An error would say that nothing is stored. The workflow is stored, and its watch begins what is left here.
    with suppress(BrokerError):
        await _begin(broker, life)
    return Created(plan.life, "stored")


async def _begin(broker: CreateBroker, life: Life) -> None:
    """Do what can be done at once. What the creator has no permission for, the watch does."""
    try:
        for action in evaluate(life.plan, Marks(), broker.now()):
            await act(life, action)
    except Denied:
        found = await broker.find(life.home, watch_job(life).id)
        if found is not None:
            await broker.move(found, broker.now() + _SOON)


def home_of(steps: Mapping[str, Step]) -> str:
    """Return the queue in which the watch of a workflow waits: that of its first call."""
    return next((step.call.queue for step in steps.values() if step.call is not None), "default")


def watch_job(life: Life, *, again: bool = False) -> JobRecord:
    """Return the job of the watch, for its first turn. again: an earlier one may have been stored, and is gone."""
    now = life.broker.now()
    place = Place(life.workflow, life.home, life.id, "watch", 0, 1, 1, life.plan.deadline, life.seen, now, again)
    body = msgspec.json.encode({"turn": 0, "newest": 0})
    return JobRecord(f"{life.id}:watch", WATCH, life.home, body, meta=Meta(flow=place), fresh=not again)


async def _store_plan(life: Life, ended: StoredPlan | None) -> bool:
    """Store the plan of a workflow, in place of `ended`; None if none stands. Return False if something else stands."""
    broker = life.broker
    if ended is not None and ended.plan is not None and any(step.callback for step in ended.plan.steps.values()):
        # It may have to call back still, and its callbacks and its watch need its plan.
        body = encode_plan(ended.plan, life.workflow, life.sealer)
        await broker.write_entry(names.former(ended.life), body, ttl=KEPT_FOR)
    sequence = await broker.write_entry(
        names.plan(life.home, life.workflow),
        encode_plan(life.plan, life.workflow, life.sealer),
        expected=0 if ended is None else ended.sequence,
        on=names.plans(life.workflow),
        ttl=life.ttl,
    )
    if sequence is None:
        return False
    life.saw(sequence)
    return True


async def _is_over(broker: FlowBroker, sealer: Sealer, found: StoredPlan) -> bool:
    if found.plan is None:
        return True
    life = Life(broker, sealer, found.workflow, found.home, found.plan, found.sequence)
    return await state_of(life) != "running"


async def _store_allowances(life: Life) -> None:
    """Note for each other queue of the plan that the creator may plan for it. Raises Denied if the creator may not."""
    for step in life.plan.steps.values():
        if step.call is not None:
            await allow(life, step.call.task, step.call.queue)


async def _store_pages(life: Life, bodies: Mapping[str, Sequence[bytes]]) -> None:
    for name, each in bodies.items():
        first = 0
        for page, size in enumerate(await life.pages(name)):
            for number, chunk in enumerate(write_bodies(each[first : first + size], first)):
                where = names.page(life.id, name, page, number)
                sealed = life.sealer.seal_chunk(life.workflow, life.id, name, names.chunk_of(where), chunk)
                await life.broker.write_entry(where, sealed, ttl=life.ttl)
            first += size
