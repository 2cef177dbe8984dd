"""Storing the jobs of members: each has a fixed id, and is stored only if nothing stands under that id."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from jetq.encoding.filling import filled
from jetq.encoding.workflows import BadRecord, read_bodies
from jetq.errors import BadPayload, BrokerError, Denied, PayloadTooLarge
from jetq.model.job import JobRecord, Place
from jetq.model.workflows import names
from jetq.model.workflows.failure import Reason
from jetq.operations.workflows.allowing import not_allowed
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.lives import find_plan
from jetq.operations.workflows.values import NoItems, items_of

__all__ = ["BATCH", "STALE", "Refused", "feed", "fire", "member_job", "place_of", "store_members"]

BATCH = 500
"""Jobs that are stored before it is noted how far the feeding came: who goes on after a death stores at most so many
again."""

STALE = 60.0
"""Seconds between a time at which nobody had stored a member and the storing, from which the job may be a second one:
half the window in which the broker recognizes a repeated job."""


class Refused(Struct, frozen=True):
    """A member whose job the broker will never take, and why."""

    member: int
    reason: Reason
    message: str


async def fire(life: Life, step: str, member: int, *, looked: float, again: bool = False) -> list[Refused]:
    """Store the job of one member. `looked`: a time before which nobody has stored the member, in unix seconds.
    `again`: the member may have been stored before. Return whether it was refused for good. Raises what an enqueue
    raises, and what `items_of` raises."""
    return await store_members(life, step, range(member, member + 1), looked=looked, again=again)


async def feed(life: Life, step: str, *, looked: float, again: bool = False) -> list[Refused]:
    """Store the jobs of all members of a step that are not noted as stored, or as many as its window lets, and note how
    far that came.

    Any number of processes may do this at once, and any of them may die: the next one stores again what was not noted.
    `looked`: a time before which nobody has fed the step, in unix seconds. Return the members that were refused for
    good. Raises as `fire` does.
    """
    members = await life.members(step)
    assert members is not None
    refused: list[Refused] = []
    window = life.plan.steps[step].window
    noted = _Noted() if step in life.unfed else None
    life.unfed.discard(step)
    while True:
        if noted is None:
            noted = await _noted(life, step)
        start = life.fed[step] = noted.fed
        if start >= members:
            return refused
        looked = looked if noted.at is None else noted.at
        stop = min(members, start + BATCH)
        if window is not None:
            stop = min(stop, await life.marked(step, start) + window)
            if stop <= start:
                return refused
        # Another feeder may have stored these, some have run by now, and the broker has forgotten their ids.
        late = again or life.broker.now() - looked > STALE
        try:
            refused += await store_members(life, step, range(start, stop), looked=looked, again=late)
        except NoItems as error:
            refused += [Refused(member, "bad-arguments", str(error)) for member in range(start, stop)]
        if members == 1:
            return refused
        if stop >= members and not noted.sequence and _note_all(life, step, members):
            return refused
        written = await life.broker.write_entry(
            names.fed(life.id, step), str(stop).encode(), expected=noted.sequence, ttl=life.ttl
        )
        noted = None  # if another feeder has noted something, it is read
        if written is not None:
            life.saw(written)
            noted = _Noted(stop, written, life.broker.now())


class _Noted(Struct, frozen=True):
    """How far the feeding came, as it is noted. at: when that was noted, in unix seconds; None if nothing is."""

    fed: int = 0
    sequence: int = 0
    at: float | None = None


async def _noted(life: Life, step: str) -> _Noted:
    entry = await life.broker.read_entry(names.fed(life.id, step), surely=True)
    return _Noted() if entry is None else _Noted(int(entry.body), entry.sequence, entry.stored_at)


def _note_all(life: Life, step: str, members: int) -> bool:
    """Note that all members of a step are stored, without waiting for it. Return False if that is not possible now.

    If the note is lost, another feeder finds all of them stored.
    """
    name = names.fed(life.id, step)
    if not life.broker.send_entry(name, str(members).encode(), _nobody_waits, on=name, ttl=life.ttl):
        return False
    life.fed[step] = members
    return True


def _nobody_waits(_: int | BrokerError | None) -> None:
    """Do nothing: another feeder may have noted more, and what is not noted is found to be stored."""


async def store_members(
    life: Life, step: str, members: Sequence[int], *, looked: float, again: bool, replays: int = 0
) -> list[Refused]:
    """Store the jobs of some members of a step. `replays`: how often they were brought back after they had failed.
    Return those that were refused for good. Raises what an enqueue raises, of the first that was not stored for another
    reason."""
    call = life.plan.steps[step].call
    assert call is not None
    if not await life.is_allowed(call.queue):
        if not await _is_open(life):  # its records went when it was closed, and nothing is left to do
            return []
        return [Refused(member, "forbidden", not_allowed(life, call.task, call.queue)) for member in members]
    bodies, why = await _bodies(life, step, members)
    unreadable = [member for member in members if member not in bodies]
    if unreadable and not await _is_open(life):
        return []
    refused = [Refused(member, "bad-arguments", why) for member in unreadable]
    members, jobs = [member for member in members if member in bodies], list[JobRecord]()
    for member in members:
        place = await place_of(life, step, member, looked=looked, again=again)
        jobs.append(member_job(life, step, member, bodies[member], place, replays))
    waits = life.plan.steps[step].edges or life.plan.steps[step].callback
    begins = None if waits else life.plan.begins
    due = begins if begins is not None and begins > life.broker.now() else None
    for member, answer in zip(members, await life.broker.enqueue_many(jobs, due=due), strict=True):
        if isinstance(answer, PayloadTooLarge):
            refused.append(Refused(member, "bad-arguments", answer.message))
        elif isinstance(answer, Denied):
            lacks = f"no permission to publish to {answer.subject}"
            words = f"{life.actor} may not enqueue {call.task} in queue {call.queue}: {lacks}"
            refused.append(Refused(member, "forbidden", words))
        elif isinstance(answer, Exception):
            raise answer
    return refused


async def _is_open(life: Life) -> bool:
    found = await find_plan(life.broker, life.sealer, life.workflow)
    return found is not None and found.life == life.id and found.plan is not None


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


async def _bodies(life: Life, name: str, members: Sequence[int]) -> tuple[dict[int, bytes], str]:
    """Return the arguments of some members, without the values of other steps; and why others cannot be read, which are
    left out: for them it is the same the next time."""
    step = life.plan.steps[name]
    assert step.call is not None
    if step.call.body:
        body = bytes(step.call.body)
        taken = next((edge for edge in step.edges if edge.by == "items"), None)
        if taken is None or life.plan.steps[taken.source].many:
            return dict.fromkeys(members, body), ""
        items = await items_of(life, taken)
        filled_in = {
            each: filled(body, [(spot, items[each]) for spot in taken.into]) for each in members if each < len(items)
        }
        return filled_in, f"the value of step {taken.source} has {len(items):,} items"
    if name in life.bodies:
        return {each: life.bodies[name][each] for each in members}, ""
    found, why = dict[int, bytes](), f"arguments of step {name} are not stored"
    pages = sorted({(await life.page_of(name, member))[0] for member in members})
    for page in pages:
        why = await _read_page(life, name, page, found) or why
    return {member: found[member] for member in members if member in found}, why


async def _read_page(life: Life, name: str, page: int, found: dict[int, bytes]) -> str | None:
    """Read the arguments of a page into `found`. Return why some of them cannot be read."""
    why = None
    for chunk in await life.look(names.chunks(life.id, name, page)):
        entry = await life.broker.read_entry(chunk) or await life.broker.read_entry(chunk, surely=True)
        if entry is None:
            continue
        try:
            body = life.sealer.open_chunk(life.workflow, life.id, name, names.chunk_of(chunk), entry.body)
            first, bodies = read_bodies(body)
            found |= dict(enumerate(bodies, first))
        except (BadPayload, BadRecord) as error:
            why = str(error)
    return why
