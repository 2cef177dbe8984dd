"""The mark of a member: its value or its failure, of which one stands."""

from __future__ import annotations

from msgspec import Raw

from jetq.encoding.workflows import encode_failure, read_ended
from jetq.errors import BrokerError
from jetq.model.failure import DeadReason
from jetq.model.failure import Failure as JobFailure
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure, Reason
from jetq.model.workflows.marks import Mark
from jetq.model.workflows.plan import NOTHING
from jetq.model.workflows.records import Ended
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.states import callback_mark, give_value, mark_callback, reopen, state_of

__all__ = ["death_of", "mark_failure", "mark_value", "standing_mark", "take_back"]

_REASONS: dict[DeadReason, Reason] = {
    "bad-arguments": "bad-arguments",
    "timeout": "timeout",
    "crashed": "crashed",
    "rejected": "rejected",
}
"""What is said of a member that is dead. All other reasons count as `failed`."""


def death_of(step: str, member: int, reason: DeadReason, failure: JobFailure) -> Failure:
    """Return what the mark of a member says that is dead: why it died, and the error of its last attempt."""
    why: Reason = "timeout" if failure.type == "jetq.JobTimeout" else _REASONS.get(reason, "failed")
    return Failure(step, member, why, failure.type, failure.message)


async def standing_mark(life: Life, step: str, member: int) -> Mark | None:
    """Return which mark of a member stands, as the leader says; None if none does."""
    if life.plan.steps[step].callback is not None:
        return await callback_mark(life, step)
    if step == life.plan.last():
        entry = await life.broker.read_entry(names.states(life.id), surely=True)
        if entry is not None and entry.name == names.end(life.id) and read_ended(entry.body).how == "value":
            return "ok"
    page, _ = await life.page_of(step, member)
    entry = await life.broker.read_entry(names.mark(life.id, step, page, member), surely=True)
    if entry is None:
        return None
    return "ok" if entry.name.endswith(".ok") else "bad"


async def mark_value(
    life: Life, step: str, member: int, value: bytes, *, late: bool = False, called: int = 0
) -> Mark | None:
    """Store the value of a member, JSON, and return which mark stands then; None if the workflow was stopped, and the
    value came too late. `late`: the member had failed and was run again, so that its value counts and its failure does
    not; see `take_back`. `called`: of a callback; see `mark_callback`."""
    sealed = None if life.sealer.codec is None else life.sealer.seal_mark(life.id, step, member, value)
    if step == life.plan.last():
        given = NOTHING if sealed is not None else Raw(value)
        ended = Ended(how="value", value=given, sealed=sealed, step=step, member=member)
        return "ok" if await give_value(life, ended) else None
    body = value if sealed is None else sealed
    if life.plan.steps[step].callback is not None:
        return "ok" if await mark_callback(life, step, "ok", body, called) else None
    return await (_write_late(life, step, member, body) if late else _write(life, step, member, "ok", body))


async def mark_failure(life: Life, failure: Failure, *, called: int = 0) -> Mark | None:
    """Store the failure of a member, and return which mark stands then; None of a callback, if the mark does not count:
    see `mark_callback`. `called`: the newest entry when the member was stored. A failure that stood by then gives way:
    a retry is about to remove it."""
    body = life.sealer.seal_failure(life.id, failure.step, failure.index, encode_failure(failure))
    if life.plan.steps[failure.step].callback is not None:
        return "bad" if await mark_callback(life, failure.step, "bad", body, called) else None
    return await _write(life, failure.step, failure.index, "bad", body, called)


async def take_back(life: Life, step: str, member: int) -> None:
    """Remove the failure of a member that has left its value late, and with the last failure that the workflow has
    failed. May be done again."""
    page, _ = await life.page_of(step, member)
    where = names.bad(life.id, step, page, member)
    failure = await life.broker.read_entry(where, surely=True)
    if failure is None and await state_of(life) != "failed":
        return
    # A verdict that was under way may have written the failure anew, with another sequence.
    while failure is not None:
        await life.broker.drop_entry(failure.sequence)
        failure = await life.broker.read_entry(where, surely=True)
    await reopen(life)


async def _write_late(life: Life, step: str, member: int, body: bytes) -> Mark:
    page, _ = await life.page_of(step, member)
    either, name = names.mark(life.id, step, page, member), names.ok(life.id, step, page, member)
    while True:
        standing = await life.broker.read_entry(either, surely=True)
        if standing is not None and standing.name == name:
            return "ok"
        expected = 0 if standing is None else standing.sequence
        if await life.write(name, body, expected=expected, on=either):
            return "ok"


async def _write(life: Life, step: str, member: int, kind: Mark, body: bytes, called: int = 0) -> Mark:
    page, _ = await life.page_of(step, member)
    either = names.mark(life.id, step, page, member)
    name = (names.ok if kind == "ok" else names.bad)(life.id, step, page, member)
    if await life.write(name, body, on=either):
        return kind
    if called:
        former = await life.broker.read_entry(either, surely=True)
        if former is not None and former.name == name and former.sequence <= called:
            if await life.write(name, body, expected=former.sequence, on=either):
                return kind
    standing = await standing_mark(life, step, member)  # of another run of this member, or this very mark
    if standing is None:
        raise BrokerError(f"the mark of member {member} of step {step} was refused, and none stands")
    return standing
