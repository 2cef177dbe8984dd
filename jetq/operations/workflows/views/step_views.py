"""What became of the steps of a workflow, as it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from jetq.encoding.workflows import read_failure
from jetq.model.workflows import names
from jetq.model.workflows.evaluate import callbacks_at
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Marks, is_covered
from jetq.model.workflows.plan import Plan, Step
from jetq.model.workflows.records import Closed, StepState, WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.states import callback_mark, state_of

__all__ = ["failure_of", "kept_steps", "steps_of"]

_SHOWN = 10
"""Failures of a step that are read to be shown."""


async def steps_of(life: Life) -> Mapping[str, StepView]:
    """Return what became of each step of an open workflow."""
    marks, state = await life.marks(), await state_of(life)
    if state == "succeeded" and (last := life.plan.last()) is not None:
        marks.ok.setdefault(last, set()).add(0)  # its mark is the end
    for name, step in life.plan.steps.items():
        if step.callback is not None:
            await _read_callback(life, marks, name)
    return {name: await _view(life, marks, name, _state(life.plan, marks, name, state)) for name in life.plan.steps}


def kept_steps(closed: Closed) -> Mapping[str, StepView]:
    """Return what is kept of the steps of a workflow that is over."""
    return {name: StepView(name, each.state, each.done, each.failed, each.total) for name, each in closed.steps.items()}


async def failure_of(life: Life, step: str, member: int) -> Failure | None:
    """Return the failure of a member; None if none stands."""
    page, _ = await life.page_of(step, member)
    entry = await life.broker.read_entry(names.bad(life.id, step, page, member), surely=True)
    return None if entry is None else read_failure(life.sealer.open_failure(life.id, step, member, entry.body))


async def _read_callback(life: Life, marks: Marks, name: str) -> None:
    """Leave in `marks` of the callback `name` what it has left since the workflow has ended."""
    mark = await callback_mark(life, name) if marks.ok.get(name) or marks.bad.get(name) else None
    marks.ok[name] = {0} if mark == "ok" else set()
    marks.bad[name] = {0} if mark == "bad" else set()


async def _view(life: Life, marks: Marks, name: str, state: StepState) -> StepView:
    done, bad, total = (
        len(marks.ok.get(name, ())),
        marks.bad.get(name, set()),
        marks.members(name, life.plan.steps[name]),
    )
    failures = [await failure_of(life, name, member) for member in sorted(bad)[:_SHOWN]]
    return StepView(name, state, done, len(bad), total, [each for each in failures if each is not None])


def _state(plan: Plan, marks: Marks, name: str, workflow: WorkflowState) -> StepState:
    step = plan.steps[name]
    ok, bad, total = marks.ok.get(name, set()), marks.bad.get(name, set()), marks.members(name, step)
    if bad and not step.tolerates:
        return "failed"
    if total is not None and len(ok | bad) >= total:
        return "succeeded"
    if step.callback is not None and workflow != "running":
        return "running" if name in callbacks_at(plan, workflow) else "cancelled"
    if workflow in ("cancelled", "expired"):
        return workflow
    return "running" if ok or bad or _may_begin(plan, marks, step) else "waiting"


def _may_begin(plan: Plan, marks: Marks, step: Step) -> bool:
    if step.callback is not None:
        return False
    for edge in step.edges:
        if edge.by in ("each", "page"):
            if not marks.done(edge.source, plan.steps[edge.source]):
                return False
        elif not is_covered(plan, marks, edge.source):
            return False
    return True
