"""Finding the plan of a workflow."""

from __future__ import annotations

from msgspec import Struct

from jetq.broker.ledger import Ledger
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import read_plan
from jetq.model.cell import LedgerEntry
from jetq.model.workflows import names
from jetq.model.workflows.plan import Plan
from jetq.model.workflows.records import Closed

__all__ = ["StoredPlan", "find_plan", "plan_of", "still_stands"]


class StoredPlan(Struct, frozen=True):
    """A plan as it is stored."""

    workflow: str
    """The id of the workflow."""

    home: str
    """The queue whose name is in the name of the plan."""

    life: str
    """The life of the workflow."""

    sequence: int
    """The sequence of the entry."""

    plan: Plan | None = None
    """The plan; None if the workflow is closed."""

    closed: Closed | None = None
    """What is kept of a closed workflow; None if it is open."""


async def find_plan(ledger: Ledger, sealer: Sealer, workflow: str) -> StoredPlan | None:
    """Return the plan of a workflow, as the leader has it; None if there is none. Raises BadRecord, BadPayload,
    NewerVersion."""
    entry = await ledger.read_entry(names.plans(workflow), surely=True)
    return None if entry is None else _stored(entry, workflow, sealer)


async def plan_of(ledger: Ledger, sealer: Sealer, workflow: str, home: str, life: str) -> StoredPlan | None:
    """Return the plan of one life of a workflow; None if there is none any more. Raises as `find_plan` does."""
    for surely in (False, True):
        entry = await ledger.read_entry(names.plan(home, workflow), surely=surely)
        if entry is not None:
            stored = _stored(entry, workflow, sealer)
            if stored.life == life:
                return stored
    return None


async def still_stands(ledger: Ledger, sealer: Sealer, found: StoredPlan) -> bool:
    """Return whether the plan is still as it was `found`."""
    now = await find_plan(ledger, sealer, found.workflow)
    return now is not None and now.sequence == found.sequence


def _stored(entry: LedgerEntry, workflow: str, sealer: Sealer) -> StoredPlan:
    read = read_plan(entry.body, workflow, sealer)
    home = entry.name.split(".")[1]
    if isinstance(read, Plan):
        return StoredPlan(workflow, home, read.life, entry.sequence, plan=read)
    return StoredPlan(workflow, home, read.life, entry.sequence, closed=read)
