"""Storing the jobs of members: each has a fixed id, and is stored only if nothing stands under that id."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from jetq.encoding.filling import filled
from jetq.encoding.workflows import BadRecord, read_bodies
from jetq.errors import Denied, PayloadTooLarge
from jetq.model.job import JobRecord, Place
from jetq.model.workflows import names
from jetq.model.workflows.failure import Reason
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.values import items_of

__all__ = ["BATCH", "Refused", "feed", "fire", "member_job", "place_of", "store_members"]

BATCH = 500
"""Jobs that are stored before it is noted how far the feeding came: who goes on after a death stores at most so many
again."""

STALE = 60.0
"""Seconds after which what a feeder noted is old: half the window in which the broker recognizes a repeated job. Later
jobs are stored as those that may be stored a second time."""


class Refused(Struct, frozen=True):
    """A member whose job the broker will never take, and why."""

    member: int
    reason: Reason
    message: str


async def fire(life: Life, step: str, member: int, *, looked: float, again: bool = False) -> list[Refused]:
    """Store the job of one member. `looked`: when it was seen that the member may begin, in unix seconds. `again`: the
    member may have been stored before. Return whether it was refused for good. Raises what an enqueue raises, and what
    `items_of` raises."""
    return await store_members(life, step, range(member, member + 1), looked=looked, again=again)


async def feed(life: Life, step: str, *, again: bool = False) -> list[Refused]:
    """Store the jobs of all members of a step that are not noted as stored, or as many as its window lets, and note how
    far that came.

    Any number of processes may do this at once, and any of them may die: the next one stores again what was not noted.
    Return the members that were refused for good. Raises as `fire` does.
    """
    members = await life.members(step)
    assert members is not None
    refused: list[Refused] = []
    window = life.plan.steps[step].window
    while True:
        noted = await life.broker.read_entry(names.fed(life.id, step), surely=True)
        start, sequence = (0, 0) if noted is None else (int(noted.body), noted.sequence)
        life.fed[step] = start
        if start >= members:
            return refused
        now = life.broker.now()
        looked = now if noted is None else noted.stored_at
        stop = min(members, start + BATCH)
        if window is not None:
            stop = min(stop, await life.marked(step, start) + window)
            if stop <= start:
                return refused
        # Another feeder may have stored these, some have run by now, and the broker has forgotten their ids.
        late = again or now - looked > STALE
        refused += await store_members(life, step, range(start, stop), looked=looked, again=late)
        if members == 1:
            return refused
        if await life.write(names.fed(life.id, step), str(stop).encode(), expected=sequence):
            life.fed[step] = stop
            if stop >= members:
                return refused


async def store_members(
    life: Life, step: str, members: Sequence[int], *, looked: float, again: bool, replays: int = 0
) -> list[Refused]:
    """Store the jobs of some members of a step. `replays`: how often they were brought back after they had failed.
    Return those that were refused for good. Raises what an enqueue raises, of the first that was not stored for another
    reason."""
    bodies = await _bodies(life, step, members)
    jobs = []
    for member, body in zip(members, bodies, strict=True):
        place = await place_of(life, step, member, looked=looked, again=again)
        jobs.append(member_job(life, step, member, body, place, replays))
    waits = life.plan.steps[step].edges or life.plan.steps[step].callback
    begins = None if waits else life.plan.begins
    due = begins if begins is not None and begins > life.broker.now() else None
    refused: list[Refused] = []
    for member, answer in zip(members, await life.broker.enqueue_many(jobs, due=due), strict=True):
        if isinstance(answer, PayloadTooLarge):
            refused.append(Refused(member, "bad-arguments", answer.message))
        elif isinstance(answer, Denied):
            refused.append(Refused(member, "forbidden", answer.message))
        elif isinstance(answer, Exception):
            raise answer
    return refused


def member_job(life: Life, step: str, member: int, body: bytes, place: Place, replays: int = 0) -> JobRecord:
    """Return the job of a member with the arguments `body`."""
    call = life.plan.steps[step].call
    assert call is not None
    expires = None if call.expires is None else life.broker.now() + call.expires
    if life.sealer.codec is not None:
        body = life.sealer.seal_arguments(call.task, call.queue, body)
    return JobRecord(
        place.job_id,
        call.task,
        call.queue,
        body,
        meta=replace(call.meta, flow=place, expires=expires, replays=replays),
        level=call.level,
        # No other job has this id, of another workflow or another life. Several may store it at once, and the broker
        # takes one of them. What may have been stored longer ago is looked for.
        fresh=not place.again,
    )


async def place_of(life: Life, step: str, member: int, *, looked: float, again: bool = False) -> Place:
    """Return the place of a member, as its job carries it."""
    _, size = await life.page_of(step, member)
    return Place(
        life.workflow,
        life.home,
        life.id,
        step,
        member,
        size,
        len(await life.pages(step)),
        life.plan.deadline,
        life.seen,
        looked,
        again,
    )


async def _bodies(life: Life, name: str, members: Sequence[int]) -> list[bytes]:
    """Return the arguments of some members, without the values of other steps."""
    step = life.plan.steps[name]
    assert step.call is not None
    if step.call.body:
        body = bytes(step.call.body)
        taken = next((edge for edge in step.edges if edge.by == "items"), None)
        if taken is None or life.plan.steps[taken.source].many:
            return [body] * len(members)
        items = await items_of(life, taken)
        return [filled(body, [(spot, items[member]) for spot in taken.into]) for member in members]
    found: dict[int, bytes] = {}
    pages = sorted({(await life.page_of(name, member))[0] for member in members})
    for page in pages:
        found |= await _page(life, name, page)
    missing = [member for member in members if member not in found]
    if missing:
        raise BadRecord(f"the arguments of member {missing[0]} of step {name} are not stored")
    return [found[member] for member in members]


async def _page(life: Life, name: str, page: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    names_of_chunks = (await life.broker.standing_entries(names.chunks(life.id, name, page))).names
    for chunk in names_of_chunks:
        entry = await life.broker.read_entry(chunk) or await life.broker.read_entry(chunk, surely=True)
        if entry is not None:
            body = life.sealer.open_plan(life.workflow, life.id, entry.body)
            first, bodies = read_bodies(body)
            found |= dict(enumerate(bodies, first))
    return found
