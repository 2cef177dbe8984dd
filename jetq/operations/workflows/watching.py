"""The watch: one job for each workflow that mends what no redelivery mends, keeps the deadline, and clears up."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from jetq.broker.dead_letters import DeadLetters
from jetq.broker.queues import Queues
from jetq.broker.results import Results
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord
from jetq.errors import Denied
from jetq.model.job import Place
from jetq.model.workflows import names
from jetq.model.workflows.evaluate import Close, Feed, Fire, evaluate
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Marks
from jetq.operations.workflows.acting import act
from jetq.operations.workflows.advancing import fail
from jetq.operations.workflows.closing import close, purge, purge_if_closed
from jetq.operations.workflows.creating import FIRST_TURN
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import find_plan, find_plan_since, former_plan, plan_of
from jetq.operations.workflows.marking import death_of
from jetq.operations.workflows.states import call_back, state_of, stop
from jetq.operations.workflows.values import MissingValue

__all__ = ["NO_PLAN", "SLOW_CREATOR", "Turn", "WatchBroker", "take_turn"]

_LONGEST = 1_800.0
"""The most seconds between two turns."""

SLOW_CREATOR = 600.0
"""Seconds between turns of a watch whose plan is not stored yet."""

NO_PLAN = 3_600.0
"""Seconds after the birth of a life in which no plan is stored any more."""

_HOLES = 100
"""Members that are looked for in one turn."""


class WatchBroker(FlowBroker, Queues, DeadLetters, Results, Protocol):
    """The parts of the broker that the watch uses."""


class Turn(Struct, frozen=True):
    """What the watch remembers from turn to turn: its number, and the newest sequence of its life."""

    turn: int = 0
    newest: int = 0


async def take_turn(
    broker: WatchBroker, sealer: Sealer, place: Place, turn: Turn, born: float, actor: str = "a worker"
) -> tuple[float, Turn] | None:
    """Take one turn for the workflow at `place`. Return in how many seconds the next one is, and what it is to know;
    None if there is nothing left to watch. born: when the watch was stored first, in unix seconds. actor: names the
    worker where it lacks a permission."""
    found = await find_plan(broker, sealer, place.workflow)
    if (found is None or found.life != place.life) and (written := await _state_sequence(broker, place.life)):
        found = await find_plan_since(broker, sealer, place.workflow, written)  # a life has its plan before its state
    if found is None or found.life != place.life or found.plan is None:
        own = found is not None and found.life == place.life
        if not own and broker.now() < born + NO_PLAN and not await _state_sequence(broker, place.life):
            return SLOW_CREATOR, turn  # its creator may be slow
        if not own and not await _former_has_called_back(broker, sealer, place):
            return FIRST_TURN, turn
        if found is not None and found.home != place.home:
            await _drop_own_plan(broker, sealer, place)
        await purge(broker, place.life)
        return None
    life = Life(broker, sealer, place.workflow, found.home, found.plan, found.sequence, actor=actor)
    newest = await broker.read_entry(names.life_of(life.id), surely=True)
    sequence = 0 if newest is None else newest.sequence
    state = await state_of(life) if sequence else "running"  # where nothing is written, no end is
    if state == "running" and broker.now() > life.plan.deadline:
        state = await stop(life, "expired")
    if state != "running":
        if not await call_back(life):
            return FIRST_TURN, turn
        entry = await broker.read_entry(names.states(life.id), surely=True)
        wait = await close(life, state, entry.stored_at if entry is not None else broker.now())
        return (min(wait, 86_400.0), turn) if wait else None
    if turn.turn == 0 or sequence <= turn.newest:  # else work goes on by itself
        try:
            await _mend(life, broker, await life.marks() if sequence else Marks())
        except (MissingValue, BadRecord):  # another turn, which was taken while this one stood still, has closed it
            if not await purge_if_closed(broker, sealer, place, life.seen):
                raise
            return None
    pause = min(FIRST_TURN * 2 ** min(turn.turn + 1, 6), _LONGEST, max(1.0, life.plan.deadline - broker.now() + 0.5))
    return pause, Turn(turn.turn + 1, sequence)


async def _former_has_called_back(broker: WatchBroker, sealer: Sealer, place: Place) -> bool:
    """Call back for a workflow that has ended, and in whose place another was stored. Return whether it has, or has
    nobody to call."""
    found = await former_plan(broker, sealer, place.workflow, place.home, place.life)
    if found is None or found.plan is None:
        return True
    life = Life(broker, sealer, place.workflow, place.home, found.plan, found.sequence)
    return await call_back(life)


async def _drop_own_plan(broker: WatchBroker, sealer: Sealer, place: Place) -> None:
    """Remove the plan of a workflow in whose place another was stored that begins in another queue: else it would be
    the newest plan, of a workflow that never ends, once the other one is not kept any more."""
    own = await plan_of(broker, sealer, place.workflow, place.home, place.life)
    if own is not None:
        await broker.drop_entry(own.sequence)


async def _state_sequence(broker: FlowBroker, life: str) -> int:
    """Return the sequence of the state that stands of a life; 0 if none does."""
    entry = await broker.read_entry(names.states(life), surely=True)
    return 0 if entry is None else entry.sequence


async def _mend(life: Life, broker: WatchBroker, marks: Marks) -> None:
    """Do what is left to do after `marks`, and look for members that were stored and are gone."""
    holes = _HOLES
    for action in evaluate(life.plan, marks, broker.now()):
        if isinstance(action, Fire):
            holes -= 1
            if holes < 0:
                return
            await _look_for(life, broker, action.step, action.member)
        elif isinstance(action, Feed):
            if life.plan.steps[action.step].window is not None:
                await _restore_counts(life, action.step, marks)
            await act(life, action, again=True)
            return  # what was fed is on its way
        elif not isinstance(action, Close):
            await act(life, action, again=True)


async def _restore_counts(life: Life, step: str, marks: Marks) -> None:
    """Count the members of a step that have left a mark and are not counted any more. Otherwise the others would seem
    to fill the window, and only the watch would feed the step."""
    marked, first = marks.ok.get(step, set()) | marks.bad.get(step, set()), 0
    for page, size in enumerate(await life.pages(step)):
        ended = sum(member in marked for member in range(first, first + size))
        if 0 < ended < size:
            name = names.count(life.id, step, page)
            missing = ended - await life.broker.count_up(name, 0)
            if missing > 0:
                await life.broker.count_up(name, missing)
        first += size


async def _look_for(life: Life, broker: WatchBroker, step: str, member: int) -> None:
    """Store a member again that is neither stored nor dead; mark it as failed if its letter has no mark, and if it is
    in a queue in which this worker may neither look nor enqueue."""
    try:
        lost = await _is_lost(life, broker, step, member)
    except Denied:
        lost = True  # the attempt to store it finds out what this worker may not do, and says it
    if lost:
        await act(life, Fire(step, member), again=True)


async def _is_lost(life: Life, broker: WatchBroker, step: str, member: int) -> bool:
    """Return whether nothing is left of a member. What is left of one that has ended is marked."""
    call = life.plan.steps[step].call
    assert call is not None
    id = f"{life.id}:{step}:{member}"
    if await broker.find(call.queue, id) is not None:
        return False
    letters = await broker.dead(call.queue, id=id)
    if letters:
        letter = letters[-1].letter
        await fail(life, death_of(step, member, letter.reason, letter.failure))
        return False
    record = await broker.get_result(call.queue, id)
    if record is not None and record.state == "cancelled":  # before it was begun, so that no worker has marked it
        await fail(life, Failure(step, member, "cancelled", "", "the job was cancelled"))
        return False
    return True
