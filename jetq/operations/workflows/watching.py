"""The watch: one job for each workflow that mends what no redelivery mends, keeps the deadline, and clears up."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from jetq.broker.dead_letters import DeadLetters
from jetq.broker.queues import Queues
from jetq.broker.results import Results
from jetq.encoding.sealer import Sealer
from jetq.model.job import Place
from jetq.model.workflows import names
from jetq.model.workflows.evaluate import Close, Feed, Fire, evaluate
from jetq.model.workflows.failure import Failure
from jetq.operations.workflows.acting import act
from jetq.operations.workflows.advancing import fail
from jetq.operations.workflows.closing import close
from jetq.operations.workflows.creating import FIRST_TURN
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import find_plan
from jetq.operations.workflows.marking import death_of
from jetq.operations.workflows.states import call_back, state_of, stop

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
    broker: WatchBroker, sealer: Sealer, place: Place, turn: Turn, born: float
) -> tuple[float, Turn] | None:
    """Take one turn for the workflow at `place`. Return in how many seconds the next one is, and what it is to know;
    None if there is nothing left to watch. born: when the watch was stored first, in unix seconds."""
    found = await find_plan(broker, sealer, place.workflow)
    if found is None or found.life != place.life or found.plan is None:
        own = found is not None and found.life == place.life
        if not own and broker.now() < born + NO_PLAN and not await _has_state(broker, place.life):
            return SLOW_CREATOR, turn  # its creator may be slow
        await broker.purge_entries(names.life_of(place.life))
        await broker.purge_entries(names.counts(place.life))
        return None
    life = Life(broker, sealer, place.workflow, found.home, found.plan, found.sequence)
    state = await state_of(life)
    if state == "running" and broker.now() > life.plan.deadline:
        state = await stop(life, "expired")
    if state != "running":
        if not await call_back(life):
            return FIRST_TURN, turn
        entry = await broker.read_entry(names.states(life.id), surely=True)
        wait = await close(life, state, entry.stored_at if entry is not None else broker.now())
        return (min(wait, 86_400.0), turn) if wait else None
    newest = await broker.read_entry(names.life_of(life.id), surely=True)
    sequence = 0 if newest is None else newest.sequence
    if turn.turn == 0 or sequence <= turn.newest:  # else work goes on by itself
        await _mend(life, broker)
    pause = min(FIRST_TURN * 2 ** min(turn.turn + 1, 6), _LONGEST, max(1.0, life.plan.deadline - broker.now() + 0.5))
    return pause, Turn(turn.turn + 1, sequence)


async def _has_state(broker: FlowBroker, life: str) -> bool:
    return await broker.read_entry(names.states(life), surely=True) is not None


async def _mend(life: Life, broker: WatchBroker) -> None:
    """Do what is left to do, and look for members that were stored and are gone."""
    holes = _HOLES
    marks = await life.marks()
    for action in evaluate(life.plan, marks, broker.now()):
        if isinstance(action, Fire):
            holes -= 1
            if holes < 0:
                return
            await _look_for(life, broker, action.step, action.member)
        elif isinstance(action, Feed):
            await act(life, action, again=True)
            return  # what was fed is on its way
        elif not isinstance(action, Close):
            await act(life, action, again=True)


async def _look_for(life: Life, broker: WatchBroker, step: str, member: int) -> None:
    """Store a member again that is neither stored nor dead; mark it as failed if its letter has no mark."""
    call = life.plan.steps[step].call
    assert call is not None
    id = f"{life.id}:{step}:{member}"
    if await broker.find(call.queue, id) is not None:
        return
    letters = await broker.dead(call.queue, id=id)
    if letters:
        letter = letters[-1].letter
        await fail(life, death_of(step, member, letter.reason, letter.failure))
        return
    record = await broker.get_result(call.queue, id)
    if record is not None and record.state == "cancelled":  # before it was begun, so that no worker has marked it
        await fail(life, Failure(step, member, "cancelled", "", "the job was cancelled"))
        return
    await act(life, Fire(step, member), again=True)
