"""Closing a workflow that has ended: what is kept of it goes into its plan, and everything else goes."""

from __future__ import annotations

from msgspec import Raw
from msgspec.structs import replace

from jetq.broker.ledger import Ledger
from jetq.encoding.filling import whole
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import encode_closed, read_ended
from jetq.model.cell import LedgerEntry
from jetq.model.job import Place
from jetq.model.workflows import names
from jetq.model.workflows.records import Closed, StepState, Totals, WorkflowState
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import find_plan, find_plan_since
from jetq.operations.workflows.values import value_of
from jetq.operations.workflows.views.step_views import steps_of

__all__ = ["KEEP_FAILED", "close", "purge", "purge_if_closed", "value_json"]

KEEP_FAILED = 31 * 86_400.0
"""Seconds for which a workflow that has failed or expired can be retried, with all its values."""

_LARGEST = 256 * 1024
"""Bytes of a value that is kept in the plan. The records of a larger value stay for as long as the value is kept."""

_AGAIN = 1.0
"""Seconds after which a workflow is looked at again whose plan has changed while it was closed."""

_MOST_VALUES = 1_000
"""Values of which a value is put together to be kept in the plan."""


async def close(life: Life, state: WorkflowState, ended_at: float) -> float:
    """Close a workflow that has ended, and return 0; or return how many seconds later it can be closed.

    A worker that dies in between does no harm: whoever comes next does the rest.
    """
    wait = ended_at - life.broker.now() + (KEEP_FAILED if state in ("failed", "expired") else life.plan.keep)
    value = None
    if state in ("failed", "expired") and wait > 0:
        return wait
    if state == "succeeded" and wait > 0:
        value = await _small_value(life)
        if value is None:
            return wait
    closed = Closed(life=life.id, closed=state, at=ended_at, steps=await _totals(life))
    if value is not None:
        closed = await _with_value(life, closed, value)
    name, ttl = names.plan(life.home, life.workflow), max(1.0, wait)
    if await life.broker.write_entry(name, encode_closed(closed), expected=life.sequence, ttl=ttl) is None:
        found = await find_plan(life.broker, life.sealer, life.workflow)
        if found is not None and found.life == life.id and found.plan is not None:
            return _AGAIN  # a retry has moved the deadline of the plan: the workflow goes on, and needs its records
    await purge(life.broker, life.id)  # after the plan: whoever finds no state must find that it is closed
    return 0.0


async def purge(ledger: Ledger, life: str) -> None:
    """Remove all records of a life but its plan."""
    await ledger.purge_entries(names.life_of(life))
    await ledger.purge_entries(names.counts(life))


async def purge_if_closed(broker: FlowBroker, sealer: Sealer, place: Place, seen: int) -> bool:
    """Remove what this process has written of the life at `place` after its workflow was closed. Return whether it is
    closed. seen: the newest sequence of the ledger that is known to be written for the life. Raises BrokerUnavailable.

    Guarantee: tests/faults/test_flow_late_firer.py: of a workflow that is closed nothing stays but its plan.
    """
    found = await find_plan_since(broker, sealer, place.workflow, seen)
    if found is not None and found.life == place.life and found.plan is not None:
        return False
    if await broker.read_entry(names.former(place.life), surely=True) is None:  # else its watch is still to come
        await purge(broker, place.life)
    return True


async def value_json(life: Life, entry: LedgerEntry | None = None) -> bytes:
    """Return the value of a workflow that has succeeded, as JSON. entry: its end, if that is read already. Raises what
    `value_of` raises."""
    last = life.plan.last()
    if last is None:
        return whole(await value_of(life))
    if entry is None:
        entry = await life.broker.read_entry(names.end(life.id), surely=True)
    assert entry is not None
    ended = read_ended(entry.body)
    value = bytes(ended.value) if ended.sealed is None else ended.sealed
    return life.sealer.open_mark(life.id, last, 0, value)  # which takes no value in the clear from who seals


async def _small_value(life: Life) -> bytes | None:
    """Return the value as JSON; None if it is large."""
    sizes = [await life.members(edge.source) or 0 for edge in life.plan.value]
    if sum(sizes) > _MOST_VALUES:
        return None
    value = await value_json(life)
    return value if len(value) <= _LARGEST else None


async def _with_value(life: Life, closed: Closed, value: bytes) -> Closed:
    if life.sealer.codec is None:
        return replace(closed, value=Raw(value))
    return replace(closed, sealed=life.sealer.seal_kept(life.workflow, life.id, value))


async def _totals(life: Life) -> dict[str, Totals]:
    return {
        name: Totals(each.total, each.done, each.failed, _kept_state(each.state))
        for name, each in (await steps_of(life)).items()
    }


def _kept_state(state: StepState) -> StepState:
    return "cancelled" if state in ("waiting", "running") else state  # it does not go on any more
