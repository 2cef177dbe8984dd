"""Workflows seen from outside: one with its steps, and a list of the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from msgspec import Struct

from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord
from jetq.errors import BadPayload, JobNotFound, NewerVersion
from jetq.model.names import life_began
from jetq.model.workflows import names
from jetq.model.workflows.plan import Plan
from jetq.model.workflows.records import WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import StoredPlan, find_plan, still_stands
from jetq.operations.workflows.states import state_of
from jetq.operations.workflows.step_views import kept_steps, steps_of

__all__ = ["WorkflowLine", "WorkflowView", "list_workflows", "view_workflow"]

T = TypeVar("T")

_UNREADABLE = (BadRecord, BadPayload, NewerVersion)

_AT_ONCE = 32
"""Workflows that are asked for together."""


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
    """A workflow that stands. began: None if its plan cannot be read."""

    home: str
    workflow: str
    began: float | None


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

    Reads every plan, because only a plan tells the age of its workflow. Raises BrokerError for more than 100,000.
    """
    standing = await broker.standing_entries(names.plan(queue or "*", "*"))
    stored: list[_Stored] = []
    for some in _portions(sorted(standing.names)):
        found = await asyncio.gather(*(_find(broker, sealer, name) for name in some))
        stored += [each for each in found if each is not None]
    stored.sort(key=lambda each: each.began or 0.0, reverse=True)
    lines: list[WorkflowLine] = []
    for portion in _portions(stored):
        shown = await asyncio.gather(*(_line(broker, sealer, each) for each in portion))
        lines += [line for line in shown if line is not None and state in (None, line.state)]
        if len(lines) >= limit:
            break
    return lines[:limit]


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


async def _find(broker: FlowBroker, sealer: Sealer, name: str) -> _Stored | None:
    """Return the workflow whose plan has this name; None if it is gone."""
    _, home, workflow = name.split(".")
    try:
        found = await find_plan(broker, sealer, workflow)
    except _UNREADABLE:
        return _Stored(home, workflow, None)
    return None if found is None else _Stored(home, workflow, life_began(found.life))


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
