"""What is asked of a workflow by its id: its state, its steps, its value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import read_ended
from jetq.errors import JobCancelled, JobExpired, JobNotFound, ResultExpired, ResultTimeout, TaskFailed
from jetq.model.cell import LedgerEntry
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.records import WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.closing import value_json
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import StoredPlan, find_plan, still_stands
from jetq.operations.workflows.states import state_by, state_of
from jetq.operations.workflows.views.step_views import failure_of, kept_steps, steps_of

__all__ = ["OFTENEST", "RAREST", "open_life", "status", "steps", "wait_for_value"]

OFTENEST, RAREST = 1.0, 10.0
"""Seconds between two looks for the end, should it not be told: a tenth of the time waited so far, within these
bounds."""

_TAKEN_UP = 0.02
"""Seconds after which a workflow is looked at again whose failure is just being taken back."""


async def open_life(broker: FlowBroker, sealer: Sealer, workflow: str) -> tuple[Life | None, StoredPlan]:
    """Return a workflow as it is stored, with its life if it is open. Raises JobNotFound, BadRecord, BadPayload."""
    found = await find_plan(broker, sealer, workflow)
    if found is None:
        raise JobNotFound(
            f"no workflow {workflow} is stored", hint="it was never stored, or it ended and is not kept any more"
        )
    if found.plan is None:
        return None, found
    return Life(broker, sealer, workflow, found.home, found.plan, found.sequence), found


async def status(broker: FlowBroker, sealer: Sealer, workflow: str) -> WorkflowState:
    """Return the state of a workflow. Raises JobNotFound."""
    while True:
        life, found = await open_life(broker, sealer, workflow)
        if life is None:
            assert found.closed is not None
            return found.closed.closed
        state = await state_of(life)
        if state != "running" or await still_stands(broker, sealer, found):
            return state  # else it was closed meanwhile, and the record was removed that says how it ended


async def steps(broker: FlowBroker, sealer: Sealer, workflow: str) -> Mapping[str, StepView]:
    """Return what became of each step. Raises JobNotFound."""
    while True:
        life, found = await open_life(broker, sealer, workflow)
        if life is None:
            assert found.closed is not None
            return kept_steps(found.closed)
        views = await steps_of(life)
        if await still_stands(broker, sealer, found):
            return views


async def wait_for_value(broker: FlowBroker, sealer: Sealer, workflow: str, timeout: float | None) -> bytes:
    """Return the value of a workflow as JSON, once it has ended. `timeout`: seconds; None waits without a bound.

    Raises TaskFailed, JobCancelled, JobExpired for other ends, ResultTimeout, ResultExpired, JobNotFound.
    """
    began = time.monotonic()
    while True:
        life, found = await open_life(broker, sealer, workflow)
        if life is None:
            return _kept_value(found, sealer)
        waited = time.monotonic() - began
        look = min(max(OFTENEST, waited / 10), RAREST)
        end = await broker.wait_entry(
            names.states(life.id), look if timeout is None else min(look, max(0.0, timeout - waited))
        )
        if end is not None:
            if (value := await _value(life, end)) is not None:
                return value
            await asyncio.sleep(_TAKEN_UP)
        if timeout is not None and time.monotonic() - began >= timeout:
            raise ResultTimeout(f"workflow {workflow} is still running after {timeout:g} s")


async def _value(life: Life, end: LedgerEntry) -> bytes | None:
    """Return the value of a workflow that has ended as `end` says; None if it is just being taken up again. Raises for
    other ends."""
    state = state_by(end)
    if state == "succeeded":
        return await value_json(life, end)
    if state == "failed":
        ended = read_ended(end.body)
        failure = await failure_of(life, ended.step, ended.member)
        if failure is None:  # the end is taken back after the failure
            return None
        raise _failed(life.workflow, failure)
    raise _other_end(life.workflow, state)


def _kept_value(found: StoredPlan, sealer: Sealer) -> bytes:
    closed = found.closed
    assert closed is not None
    if closed.closed != "succeeded":
        raise _other_end(found.workflow, closed.closed)
    kept = bytes(closed.value) if closed.sealed is None else closed.sealed
    if not kept:
        raise ResultExpired(f"the value of workflow {found.workflow} is not kept any more")
    return sealer.open_kept(found.workflow, found.life, kept)  # which takes no value in the clear from who seals


def _failed(workflow: str, failure: Failure) -> TaskFailed:
    where = f"step {failure.step}" + (f", member {failure.index}" if failure.index else "")
    why = f"{failure.type}: {failure.message}" if failure.type else failure.message
    return TaskFailed(f"workflow {workflow} has failed: {where}: {why}", type=failure.type)


def _other_end(workflow: str, state: WorkflowState) -> Exception:
    if state == "cancelled":
        return JobCancelled(f"workflow {workflow} was cancelled")
    if state == "expired":
        return JobExpired(f"workflow {workflow} expired before it had ended")
    return TaskFailed(f"workflow {workflow} has failed")
