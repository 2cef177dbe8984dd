"""How a life has ended, or was stopped: each is decided by one write."""

from __future__ import annotations

from typing import Literal

from jetq.broker.ledger import Ledger
from jetq.encoding.workflows import encode_ended, encode_failure, read_ended
from jetq.model.cell import LedgerEntry, NewEntry
from jetq.model.workflows import names
from jetq.model.workflows.evaluate import callbacks_at
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Mark, Marks, untolerated
from jetq.model.workflows.records import Ended, WorkflowState
from jetq.operations.workflows.firing import fire
from jetq.operations.workflows.life import Life

__all__ = [
    "call_back",
    "callback_mark",
    "failures",
    "give_value",
    "give_verdict",
    "mark_callback",
    "reopen",
    "state_by",
    "state_in",
    "state_of",
    "stop",
]


async def state_of(life: Life) -> WorkflowState:
    """Return the state of an open workflow, as the leader says."""
    return await state_in(life.broker, life.id)


async def state_in(ledger: Ledger, life: str) -> WorkflowState:
    """Return the state that stands of a life, as the leader says: "running" for none, as of one that is closed."""
    entry = await ledger.read_entry(names.states(life), surely=True)
    return "running" if entry is None else state_by(entry)


async def _end_of(life: Life) -> LedgerEntry | None:
    """Return the entry that says how the life has ended, or that it was stopped; None while it goes on."""
    return await life.broker.read_entry(names.states(life.id), surely=True)


def state_by(entry: LedgerEntry) -> WorkflowState:
    """Return the state of a workflow of which `entry` says how it has ended, or was stopped."""
    if entry.name.endswith(".stop"):
        return "cancelled" if entry.body.startswith(b"cancelled") else "expired"
    return "succeeded" if read_ended(entry.body).how == "value" else "failed"


async def give_value(life: Life, ended: Ended) -> bool:
    """Note that the work has its value. Return False if it was stopped before.

    A failure that stands gives way: whoever gives the value has seen that no failure is left.
    """
    body = encode_ended(ended)
    while True:
        entry = await _end_of(life)
        if entry is not None and state_by(entry) != "failed":
            return state_by(entry) == "succeeded"
        expected = 0 if entry is None else entry.sequence
        if await life.write(names.end(life.id), body, expected=expected, on=names.states(life.id)):
            return True


async def give_verdict(life: Life, step: str, member: int, called: int = 0) -> bool:
    """Note that the workflow has failed because `member` has. Return whether it has failed. `called`: the newest entry
    when the member was stored. That the workflow had failed by then gives way: this is another end of it.

    The verdict and the failure that it rests on are written at once. Otherwise a late success of the member and a stale
    verdict would leave a workflow that has failed for nothing.
    """
    page, _ = await life.page_of(step, member)
    bad = names.bad(life.id, step, page, member)
    verdict = encode_ended(Ended(how="failed", step=step, member=member))
    while True:
        failure = await life.broker.read_entry(bad, surely=True)
        if failure is None:
            return False
        entry = await _end_of(life)
        if entry is not None and (state_by(entry) != "failed" or entry.sequence > called):
            return state_by(entry) == "failed"
        end = NewEntry(names.end(life.id), verdict, entry.sequence if entry is not None else 0, names.states(life.id))
        if await life.write_all([end, NewEntry(bad, failure.body, failure.sequence)]):
            return True


async def stop(life: Life, why: Literal["cancelled", "expired"]) -> WorkflowState:
    """Stop the workflow unless it has ended with its value, and return the state in which it is then."""
    while True:
        entry = await _end_of(life)
        if entry is not None and state_by(entry) != "failed":
            return state_by(entry)
        if entry is not None and why == "expired":
            return "failed"
        expected = 0 if entry is None else entry.sequence
        body = why if entry is None else f"{why} {entry.sequence}"  # the end whose callbacks were called
        if await life.write(names.stop(life.id), body.encode(), expected=expected, on=names.states(life.id)):
            return why


async def reopen(life: Life) -> None:
    """Take back that the workflow has failed, if no failure is left that it does not tolerate."""
    entry = await _end_of(life)  # before the failures: an end that comes after them is none of theirs
    if await failures(life):
        return
    if entry is not None and state_by(entry) == "failed":
        await life.broker.drop_entry(entry.sequence)
    for step, member in await failures(life):  # whose verdict may have been refused by the end that is gone now
        if await give_verdict(life, step, member):
            await call_back(life)
            return


async def failures(life: Life) -> list[tuple[str, int]]:
    """Return step and member of each failure that makes the workflow fail."""
    bad: dict[str, set[int]] = {}
    for tokens in await life.standing(names.all_bad(life.id)):
        bad.setdefault(tokens[3], set()).add(int(tokens[5]))
    return list(untolerated(life.plan, Marks(bad=bad)))


# --- callbacks


async def call_back(life: Life) -> bool:
    """Store the jobs of the callbacks that are due and have not left their marks. Return whether none was due any
    more, or the workflow goes on."""
    if not any(step.callback for step in life.plan.steps.values()):
        return True
    end = await _end_of(life)
    if end is None:  # it was taken up again meanwhile
        return True
    life.saw(end.sequence)  # by which the callback knows for which end it is called
    due = [name for name in callbacks_at(life.plan, state_by(end)) if await _mark_since(life, name, end) is None]
    for name in due:
        for refused in await fire(life, name, 0, looked=life.broker.now(), again=True):
            # It will never run. Without a mark it would be due for ever, and the workflow would stay open.
            told = Failure(name, 0, refused.reason, "", refused.message)
            body = life.sealer.seal_failure(life.id, name, 0, encode_failure(told))
            await mark_callback(life, name, "bad", body, end.sequence)
    return not due


async def callback_mark(life: Life, step: str) -> Mark | None:
    """Return the mark that a callback has left since the workflow has ended; None if there is none."""
    end = await _end_of(life)
    return None if end is None else await _mark_since(life, step, end)


async def mark_callback(life: Life, step: str, mark: Mark, body: bytes, called: int) -> bool:
    """Mark a callback that has ended, and return whether its mark counts. It does not if the end that it was called for
    stands no more: it is due again at the next one. `called`: the newest entry when it was called."""
    ok, bad = names.ok(life.id, step, 0, 0), names.bad(life.id, step, 0, 0)
    name, other = (ok, bad) if mark == "ok" else (bad, ok)
    while True:
        end = await _end_of(life)
        if end is None or _called_from(end) > called:
            return False
        if await life.write(name, body, expected=end.sequence, on=names.states(life.id)):
            break
    before = await life.broker.read_entry(other, surely=True)
    if before is not None:
        await life.broker.drop_entry(before.sequence)
    return True


async def _mark_since(life: Life, step: str, end: LedgerEntry) -> Mark | None:
    entry = await life.broker.read_entry(names.mark(life.id, step, 0, 0), surely=True)
    if entry is None or entry.sequence < _called_from(end):  # that of an earlier end, which was taken back
        return None
    return "ok" if entry.name.endswith(".ok") else "bad"


def _called_from(end: LedgerEntry) -> int:
    """Return the sequence of the end by which callbacks became due: of a failed workflow that was cancelled the end in
    whose place `end` was written."""
    replaced = end.body.partition(b" ")[2] if end.name.endswith(".stop") else b""
    return int(replaced) if replaced.isdigit() else end.sequence
