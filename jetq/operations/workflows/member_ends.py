"""How a member of a workflow has ended, as its mark says: for who knows nothing but the id of its job."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from jetq.broker.ledger import Ledger
from jetq.encoding.workflows import read_ended
from jetq.model.names import is_of_member
from jetq.model.workflows import names

__all__ = ["MemberEnd", "end_of_member", "member_of"]


class MemberEnd(Struct, frozen=True):
    """The end of a member. body: its value or failure as it is stored. sequence, at: those of the mark."""

    mark: Literal["ok", "bad"]
    body: bytes
    sequence: int
    at: float


def member_of(id: str) -> tuple[str, str, int] | None:
    """Return the life, the step and the number of the member that a job's id names; None for any other job."""
    if not is_of_member(id):
        return None
    life, step, member = id.split(":")
    return life, step, int(member)


async def end_of_member(ledger: Ledger, id: str) -> MemberEnd | None:
    """Return how the member has ended whose job has this id. Return None for the id of no member, for a member that has
    not ended, and once its workflow is closed. Raises BrokerError, BadRecord."""
    named = member_of(id)
    if named is None:
        return None
    life, step, member = named
    entry = await ledger.read_entry(names.mark_by_number(life, step, member), surely=True)
    if entry is not None:
        return MemberEnd("ok" if entry.name.endswith(".ok") else "bad", entry.body, entry.sequence, entry.stored_at)
    entry = await ledger.read_entry(names.end(life), surely=True)
    if entry is None:
        return None
    ended = read_ended(entry.body)  # the mark of the step whose value is that of the workflow
    if ended.how != "value" or (ended.step, ended.member) != (step, member):
        return None
    body = bytes(ended.value) if ended.sealed is None else ended.sealed
    return MemberEnd("ok", body, entry.sequence, entry.stored_at)
