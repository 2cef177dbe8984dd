"""How a life has ended, or was stopped: each is decided by one write."""

from __future__ import annotations

from typing import Literal

from jetq.encoding.workflows import encode_ended, encode_failure, read_ended
from jetq.model.cell import LedgerEntry, NewEntry
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Marks, untolerated
from jetq.model.workflows.records import Ended, WorkflowState
from jetq.operations.workflows.firing import fire
from jetq.operations.workflows.life import Life

__all__ = [
    "call_back",
    "failures",
    "forget_callbacks",
    "give_value",
    "give_verdict",
    "reopen",
    "state_of",
    "stop",
]


async def state_of(life: Life) -> WorkflowState:
    """Return the state of an open workflow, as the leader says."""
    entry = await life.broker.read_entry(names.states(life.id), surely=True)
    return "running" if entry is None else _state(entry)


def _state(entry: LedgerEntry) -> WorkflowState:
    if entry.name.endswith(".stop"):
        return "cancelled" if entry.body == b"cancelled" else "expired"
    return "succeeded" if read_ended(entry.body).how == "value" else "failed"


async def give_value(life: Life, ended: Ended) -> bool:
    """Note that the work has its value. Return False if it was stopped before.

    A failure that stands gives way: whoever gives the value has seen that no failure is left.
    """
    body = encode_ended(ended)
    while True:
        entry = await life.broker.read_entry(names.states(life.id), surely=True)
        if entry is not None and _state(entry) != "failed":
            return _state(entry) == "succeeded"
        expected = 0 if entry is None else entry.sequence
        if await life.write(names.end(life.id), body, expected=expected, on=names.states(life.id)):
            return True


async def give_verdict(life: Life, step: str, member: int) -> bool:
    """Note that the workflow has failed because `member` has. Return whether it has failed.

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
        entry = await life.broker.read_entry(names.states(life.id), surely=True)
        if entry is not None:
            return _state(entry) == "failed"
        end = NewEntry(names.end(life.id), verdict, 0, names.states(life.id))
        if await life.write_all([end, NewEntry(bad, failure.body, failure.sequence)]):
            return True


async def stop(life: Life, why: Literal["cancelled", "expired"]) -> WorkflowState:
    """Stop the workflow unless it has ended with its value, and return the state in which it is then."""
    while True:
        entry = await life.broker.read_entry(names.states(life.id), surely=True)
        if entry is not None and _state(entry) != "failed":
            return _state(entry)
        if entry is not None and why == "expired":
            return "failed"
        expected = 0 if entry is None else entry.sequence
        if await life.write(names.stop(life.id), why.encode(), expected=expected, on=names.states(life.id)):
            return why


async def reopen(life: Life) -> None:
    """Take back that the workflow has failed, if no failure is left that it does not tolerate."""
    if await failures(life):
        return
    entry = await life.broker.read_entry(names.states(life.id), surely=True)
    if entry is not None and _state(entry) == "failed":
        await life.broker.drop_entry(entry.sequence)
    for step, member in await failures(life):  # whose verdict may have been refused by the end that is gone now
        if await give_verdict(life, step, member):
            await call_back(life, "failed")
            return


async def failures(life: Life) -> list[tuple[str, int]]:
    """Return step and member of each failure that makes the workflow fail."""
    bad: dict[str, set[int]] = {}
    for tokens in await life.standing(names.all_bad(life.id)):
        bad.setdefault(tokens[3], set()).add(int(tokens[5]))
    return list(untolerated(life.plan, Marks(bad=bad)))


async def call_back(life: Life, state: WorkflowState) -> bool:
    """Store the jobs of the callbacks that are due in `state` and have not left their marks. Return whether none was
    due any more."""
    if state == "running":  # it was taken up again meanwhile
        return True
    kinds = {"end", "failure"} if state in ("failed", "expired") else {"end"}
    steps = [name for name, step in life.plan.steps.items() if step.callback in kinds]
    due = []
    for name in steps:
        if not await life.standing(names.mark(life.id, name, 0, 0)):
            due.append(name)
            for refused in await fire(life, name, 0, looked=life.broker.now(), again=True):
                # It will never run. Without a mark it would be due for ever, and the workflow would stay open.
                told = Failure(name, 0, refused.reason, "", refused.message)
                body = life.sealer.seal_mark(life.id, name, 0, encode_failure(told))
                await life.write(names.bad(life.id, name, 0, 0), body, on=names.mark(life.id, name, 0, 0))
    return not due


async def forget_callbacks(life: Life) -> None:
    """Forget that the callbacks have run: the workflow is taken up again, and they are due anew when it ends anew.

    Do this before the end is taken back: done after it, a new end in between would find them to have run.
    """
    for name, step in life.plan.steps.items():
        if step.callback is not None:
            await life.broker.purge_entries(names.mark(life.id, name, 0, 0))
