"""Workflows seen from outside: one with its steps, and a list of the newest."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from msgspec import Struct

from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord
from jetq.errors import BadPayload, JobNotFound, NewerVersion
from jetq.model.cell import LedgerEntry
from jetq.model.names import life_began
from jetq.model.workflows import names
from jetq.model.workflows.plan import Plan
from jetq.model.workflows.records import WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import StoredPlan, still_stands, stored_plan
from jetq.operations.workflows.states import state_in, state_of
from jetq.operations.workflows.views.step_views import kept_steps, steps_of

__all__ = ["PLANS_AT_ONCE", "WorkflowLine", "WorkflowView", "list_workflows", "view_workflow"]

T = TypeVar("T")

_UNREADABLE = (BadRecord, BadPayload, NewerVersion)

_AT_ONCE = 32
"""Workflows that are asked for together."""

PLANS_AT_ONCE = 500
"""Plans that are held in memory at once. Each may have hundreds of kilobytes."""


class WorkflowView(Struct, frozen=True):
    """What is known of a workflow. Times are unix seconds; None where a time is not known."""

    id: str
    """The workflow's id."""

    queue: str
    """The queue of its first call."""

    state: WorkflowState
    """Where the workflow is in its life."""

    steps: Mapping[str, StepView]
    """What became of each step."""

    plan: Plan | None = None
    """The plan; None once the workflow is over and only its value is kept."""

    began: float | None = None
    """When the workflow was created."""

    ended: float | None = None
    """When the workflow ended."""


class WorkflowLine(Struct, frozen=True):
    """A workflow in a list."""

    id: str
    """The workflow's id."""

    queue: str
    """The queue of its first call."""

    state: WorkflowState | Literal["unreadable"]
    """Where the workflow is in its life. unreadable: the app cannot open the plan, or this jetq cannot read it."""

    done: int = 0
    """Steps that have succeeded."""

    total: int = 0
    """How many steps there are."""

    began: float | None = None
    """When the workflow was created, in unix seconds; None if this is not known."""


class _Stored(Struct, frozen=True):
    """A workflow that stands. life: empty, and began: None, if its plan cannot be read. closed: its end; None while it
    is open."""

    home: str
    workflow: str
    life: str = ""
    began: float | None = None
    closed: WorkflowState | None = None


async def view_workflow(broker: FlowBroker, sealer: Sealer, workflow: str) -> WorkflowView:
    """Return what is known of a workflow. Raises JobNotFound, BadRecord, BadPayload, NewerVersion."""
    while True:
        life, found = await open_life(broker, sealer, workflow)
        if life is None:
            return _kept(found)
        view = await _view(life)
        if view.state != "running" or await still_stands(broker, sealer, found):
            return view  # else it was closed meanwhile, and the records that say how it ended were removed


async def list_workflows(
    broker: FlowBroker,
    sealer: Sealer,
    *,
    queue: str | None = None,
    state: WorkflowState | None = None,
    limit: int = 50,
) -> list[WorkflowLine]:
    """Return the newest workflows, at most `limit`, the newest first: of all, or those whose first call is in `queue`,
    or those in one state.

    Reads every plan, because only a plan tells the age of its workflow, page by page: of any number, `limit` are kept
    in memory. One that ends or is removed meanwhile may be missing.
    """
    newest: list[_Stored] = []
    async for page in _pages(broker, sealer, names.plan(queue or "*", "*")):
        again = {each.workflow for each in page}  # what is written anew, as when a workflow is closed, comes again
        newest = [each for each in newest if each.workflow not in again]
        newest += page if state is None else await _in_state(broker, page, state)
        newest = heapq.nsmallest(limit, newest, key=lambda each: (-(each.began or 0.0), each.workflow))
    lines: list[WorkflowLine] = []
    for portion in _portions(newest):
        shown = await asyncio.gather(*(_line(broker, sealer, each) for each in portion))
        lines += [line for line in shown if line is not None and state in (None, line.state)]
    return lines


async def _pages(broker: FlowBroker, sealer: Sealer, where: str) -> AsyncIterator[list[_Stored]]:
    """Yield the workflows whose plans have names on `where`, in the order in which these were written."""
    after = 0
    while entries := await broker.list_entries(where, after=after, limit=PLANS_AT_ONCE):
        after = entries[-1].sequence
        yield [_stored(entry, sealer) for entry in entries]


def _stored(entry: LedgerEntry, sealer: Sealer) -> _Stored:
    _, home, workflow = entry.name.split(".")
    try:
        found = stored_plan(entry, workflow, sealer)
    except _UNREADABLE:
        return _Stored(home, workflow)
    closed = None if found.closed is None else found.closed.closed
    return _Stored(home, workflow, found.life, life_began(found.life), closed)


async def _in_state(broker: FlowBroker, all: Sequence[_Stored], state: WorkflowState) -> Sequence[_Stored]:
    """Return those of `all` that are in `state`. Of an open workflow the plan does not say that."""
    found: list[_Stored] = []
    for portion in _portions(all):
        states = await asyncio.gather(*(_state(broker, each) for each in portion))
        found += [each for each, its in zip(portion, states, strict=True) if its == state]
    return found


async def _state(broker: FlowBroker, stored: _Stored) -> WorkflowState | None:
    if stored.closed is not None or not stored.life:
        return stored.closed
    try:
        return await state_in(broker, stored.life)
    except BadRecord:
        return None


async def _view(life: Life) -> WorkflowView:
    steps, state, ended = await steps_of(life), await state_of(life), None
    if state != "running":
        entry = await life.broker.read_entry(names.states(life.id), surely=True)
        ended = None if entry is None else entry.stored_at
    return WorkflowView(life.workflow, life.home, state, steps, life.plan, life_began(life.id), ended)


def _kept(found: StoredPlan) -> WorkflowView:
    closed = found.closed
    assert closed is not None
    return WorkflowView(
        found.workflow,
        found.home,
        closed.closed,
        kept_steps(closed),
        began=life_began(found.life),
        ended=closed.at,
    )


def _portions(all: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(all), _AT_ONCE):
        yield all[start : start + _AT_ONCE]


async def _line(broker: FlowBroker, sealer: Sealer, stored: _Stored) -> WorkflowLine | None:
    """Return a workflow as a line of the list; None if it is gone meanwhile."""
    try:
        view = await view_workflow(broker, sealer, stored.workflow)
    except JobNotFound:
        return None
    except _UNREADABLE:
        return WorkflowLine(stored.workflow, stored.home, "unreadable", began=stored.began)
    done = sum(step.state == "succeeded" for step in view.steps.values())
    return WorkflowLine(stored.workflow, stored.home, view.state, done, len(view.steps), view.began)
