"""Finding the plan of a workflow."""

from __future__ import annotations

from msgspec import Struct

from jetq.broker.ledger import Ledger
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import read_plan
from jetq.errors import BrokerUnavailable
from jetq.model.cell import LedgerEntry
from jetq.model.workflows import names
from jetq.model.workflows.plan import Plan
from jetq.model.workflows.records import Closed

__all__ = ["StoredPlan", "find_plan", "find_plan_since", "former_plan", "plan_of", "still_stands", "stored_plan"]


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
    return None if entry is None else stored_plan(entry, workflow, sealer)


async def find_plan_since(ledger: Ledger, sealer: Sealer, workflow: str, written: int) -> StoredPlan | None:
    """Do what `find_plan` does, once a leader has answered that knows the entry `written`: one that does not know yet
    that it is none may not have the plan. Raises BrokerUnavailable if none has."""
    standing = await ledger.standing_entries(names.plans(workflow), at_least=written)
    if standing.sequence < written:
        raise BrokerUnavailable(f"nobody knows the plan of workflow {workflow} and entry {written}", hint="try again")
    return await find_plan(ledger, sealer, workflow)


async def plan_of(ledger: Ledger, sealer: Sealer, workflow: str, home: str, life: str) -> StoredPlan | None:
    """Return the plan of one life of a workflow, as the leader has it; None if there is none any more. Raises as
    `find_plan` does."""
    # A replica may be behind: what it has may be open here and closed by now, and its members would run again.
    entry = await ledger.read_entry(names.plan(home, workflow), surely=True)
    stored = None if entry is None else stored_plan(entry, workflow, sealer)
    return stored if stored is not None and stored.life == life else None


async def still_stands(ledger: Ledger, sealer: Sealer, found: StoredPlan) -> bool:
    """Return whether the plan is still as it was `found`."""
    now = await find_plan(ledger, sealer, found.workflow)
    return now is not None and now.sequence == found.sequence


async def former_plan(ledger: Ledger, sealer: Sealer, workflow: str, home: str, life: str) -> StoredPlan | None:
    """Return the plan of a life that has ended, and in whose place another was stored before it had called back; None
    if there is none. Raises as `find_plan` does."""
    entry = await ledger.read_entry(names.former(life), surely=True)
    if entry is None:
        return None
    read = read_plan(entry.body, workflow, sealer)
    return StoredPlan(workflow, home, life, entry.sequence, plan=read) if isinstance(read, Plan) else None


def stored_plan(entry: LedgerEntry, workflow: str, sealer: Sealer) -> StoredPlan:
    """Return the plan of a workflow that is stored in `entry`. Raises as `find_plan` does."""
    read = read_plan(entry.body, workflow, sealer)
    home = entry.name.split(".")[1]
    if isinstance(read, Plan):
        return StoredPlan(workflow, home, read.life, entry.sequence, plan=read)
    return StoredPlan(workflow, home, read.life, entry.sequence, closed=read)
