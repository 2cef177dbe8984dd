"""Taking up a workflow that has failed or expired: what failed runs again, and what waited for it follows.

Whoever dies in between leaves a workflow that can be retried again, which does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from msgspec.structs import replace

from jetq.broker.dead_letters import DeadLetters
from jetq.broker.fleet import Fleet
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord, encode_plan, read_failure
from jetq.errors import BadPayload, WorkflowError
from jetq.model.dead_letter import DeadEntry
from jetq.model.job import JobRecord
from jetq.model.names import life_began
from jetq.model.workflows import names
from jetq.model.workflows.evaluate import Close, Fire, evaluate
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import Plan
from jetq.operations.dead_letters import revived
from jetq.operations.workflows.acting import act
from jetq.operations.workflows.advancing import fail
from jetq.operations.workflows.allowing import allow
from jetq.operations.workflows.cancelling import CancelBroker, tell, wake_watch
from jetq.operations.workflows.creating import FIRST_TURN
from jetq.operations.workflows.firing import BATCH, place_of, store_members
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import KEPT_FOR, Life
from jetq.operations.workflows.states import failures, reopen, state_of

__all__ = ["RetryBroker", "retry"]

_EXPIRES = 31 * 86_400.0
"""Seconds to the new deadline of a workflow that is retried after its deadline, unless the caller says how many."""

_AT_ONCE = 32
"""Members that are run again together."""


class RetryBroker(CancelBroker, DeadLetters, Fleet, Protocol):
    """The parts of the broker that a retry uses."""


async def retry(
    broker: RetryBroker, sealer: Sealer, workflow: str, *, step: str | None = None, expires: float | None = None
) -> int:
    """Run again what failed in a workflow, or in its step `step`, and return how many members that are.

    expires: seconds from now to the new deadline; None leaves the deadline, if it has not passed. What a step tolerates
    is not run again. Raises JobNotFound, WorkflowError for a step that the workflow does not have and for a workflow
    that cannot go on any more, NewerVersion for a letter that only a newer jetq reads, Denied if a member was
    forbidden in a queue for which the NATS user may not plan either.

    Guarantee: tests/integration/workflows/test_retry.py: also after another failure, and by two at once.
    """
    life = await _that_may_go_on(broker, sealer, workflow, step)
    if life is None:
        return 0
    late = broker.now() > life.plan.deadline
    life = await _prolonged(life, expires)
    life.actor = "whoever retries it"
    late |= await _take_back_expiry(life)
    await tell(broker, life)  # before a job comes that they would drop
    failed = [each for each in await failures(life) if step in (None, each[0])]
    await _see_end(life)
    again = 0
    for start in range(0, len(failed), _AT_ONCE):
        together = failed[start : start + _AT_ONCE]
        again += sum(await asyncio.gather(*(_run_again(life, broker, name, member) for name, member in together)))
    if await state_of(life) == "failed" and not await failures(life):
        await reopen(life)
    if late and await state_of(life) == "running":
        await _store_dropped(life)
    await wake_watch(broker, life, FIRST_TURN)
    return again


async def _that_may_go_on(broker: RetryBroker, sealer: Sealer, workflow: str, step: str | None) -> Life | None:
    """Return the workflow; None if it has its value. Raises JobNotFound, WorkflowError."""
    life, found = await open_life(broker, sealer, workflow)
    if life is not None and step is not None:
        _check_step(life.plan, step)
    if life is None:
        assert found.closed is not None
        state = found.closed.closed
    else:
        state = await state_of(life)
    if state == "succeeded":
        return None
    if life is None or state == "cancelled":
        raise WorkflowError(
            f"workflow {workflow} was cancelled, and does not go on"
            if state == "cancelled"
            else f"workflow {workflow} has {state}, so long ago that its values are not kept any more",
            hint="start it anew, under another id",
        )
    return life


def _check_step(plan: Plan, step: str) -> None:
    known = [name for name, each in plan.steps.items() if each.callback is None]
    if step not in known:
        raise WorkflowError(f"the workflow has no step {step!r}", hint=f"its steps: {', '.join(known)}")


# --- the deadline


async def _prolonged(life: Life, expires: float | None) -> Life:
    """Return the workflow with a new deadline, if it needs one or `expires` says one. Raises WorkflowError if it was
    closed meanwhile."""
    broker = life.broker
    while expires is not None or broker.now() > life.plan.deadline:
        deadline = broker.now() + (_EXPIRES if expires is None else expires)
        _check_deadline(life, deadline)
        plan = replace(life.plan, deadline=deadline)
        written = await broker.write_entry(
            names.plan(life.home, life.workflow),
            encode_plan(plan, life.workflow, life.sealer),
            expected=life.sequence,
            ttl=deadline - broker.now() + KEPT_FOR,
        )
        if written is not None:
            return Life(broker, life.sealer, life.workflow, life.home, plan, written)
        before = life.id
        read, _ = await open_life(broker, life.sealer, life.workflow)  # another retry was faster, or this very write
        if read is None or read.id != before:
            raise WorkflowError(f"workflow {life.workflow} was closed meanwhile", hint="start it anew")
        life = read
        if broker.now() <= life.plan.deadline:
            return life
    return life


def _check_deadline(life: Life, deadline: float) -> None:
    """Raise WorkflowError if what was stored first of the workflow would be gone before `deadline`."""
    began = life_began(life.id)
    if began is not None and deadline > began + KEPT_FOR:
        days = (deadline - began) / 86_400
        raise WorkflowError(
            f"workflow {life.workflow} would end {days:,.0f} days after it was stored, and its records are kept for "
            f"{KEPT_FOR / 86_400:,.0f}",
            hint="start it anew, under another id, or give a smaller `expires`",
        )


async def _take_back_expiry(life: Life) -> bool:
    """Take back that the workflow has expired. Return whether it had."""
    entry = await life.broker.read_entry(names.stop(life.id), surely=True)
    if entry is not None and not entry.body.startswith(b"cancelled"):
        return await life.broker.drop_entry(entry.sequence)
    return False


async def _store_dropped(life: Life) -> None:
    """Store again what was dropped because the deadline had passed. What stands is not stored twice, and what has left
    its mark meanwhile finds it."""
    marks = await life.marks()
    actions = [each for each in evaluate(life.plan, marks, life.broker.now()) if not isinstance(each, Close)]
    fires = [each for each in actions if isinstance(each, Fire)]
    for name, members in groupby(fires, lambda each: each.step):
        await _store_all(life, name, [each.member for each in members])
    for action in actions:
        if not isinstance(action, Fire):
            await act(life, action, again=True)


async def _store_all(life: Life, step: str, members: Sequence[int]) -> None:
    for start in range(0, len(members), BATCH):
        batch = members[start : start + BATCH]
        for each in await store_members(life, step, batch, looked=life.broker.now(), again=True):
            await fail(life, Failure(step, each.member, each.reason, "", each.message))


# --- members that failed


async def _see_end(life: Life) -> None:
    """Let the members that run again know the end that stands: if they fail again, that is another one."""
    end = await life.broker.read_entry(names.states(life.id), surely=True)
    if end is not None:
        life.saw(end.sequence)


async def _run_again(life: Life, broker: RetryBroker, step: str, member: int) -> bool:
    """Store the job of a member again, and only then remove its failure: whoever dies in between leaves a member that
    is retried again. Return False if another retry, or a late success, has removed the failure.

    Guarantee: tests/integration/workflows/test_retry.py: a member that fails again before this is done has failed anew.
    """
    call = life.plan.steps[step].call
    page, _ = await life.page_of(step, member)
    failure = await life.broker.read_entry(names.bad(life.id, step, page, member), surely=True)
    if failure is None or call is None:
        return False
    life.saw(failure.sequence)
    await _allow_forbidden(life, step, member, failure.body)
    id = f"{life.id}:{step}:{member}"
    if left := await broker.dead(call.queue, id=id):
        await broker.replay(left[-1], await _again(life, left[-1], step, member))
    else:  # it expired, was cancelled, was forbidden, took a value that was none, or its letter was removed
        await broker.unmark_cancelled(call.queue, id)
        # As a replay: what it leaves takes the place of its failure.
        for refused in await store_members(life, step, [member], looked=life.broker.now(), again=True, replays=1):
            told = Failure(step, refused.member, refused.reason, "", refused.message)
            await fail(life, told)
            return False
    if await life.broker.drop_entry(failure.sequence):
        return True
    newer = await life.broker.read_entry(names.bad(life.id, step, page, member), surely=True)
    return newer is not None and newer.sequence > failure.sequence  # it has failed again by now


async def _allow_forbidden(life: Life, step: str, member: int, failure: bytes) -> None:
    """Note that a member may run that was forbidden, because the plan's creator may not plan for its queue. Raises
    Denied if whoever retries may not either."""
    call = life.plan.steps[step].call
    assert call is not None
    try:
        said = read_failure(life.sealer.open_failure(life.id, step, member, failure))
    except (BadPayload, BadRecord):
        return  # who has changed it gains nothing
    if said.reason == "forbidden" and not await life.is_allowed(call.queue):
        await allow(life, call.task, call.queue)


async def _again(life: Life, entry: DeadEntry, step: str, member: int) -> JobRecord:
    """Return the job of a letter as it is stored again. Raises NewerVersion."""
    job = revived(entry)
    place = await place_of(life, step, member, looked=life.broker.now(), again=True)
    return replace(job, meta=replace(job.meta, flow=place))
