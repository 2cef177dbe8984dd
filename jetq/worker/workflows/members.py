"""A member of a workflow in a worker: whether it may begin and with what, and what its end sets off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol

import msgspec

from jetq.broker.cells import Cells
from jetq.broker.consuming import Consuming
from jetq.broker.dead_letters import DeadLetters
from jetq.broker.queues import Queues
from jetq.broker.results import Results
from jetq.encoding.sealer import Sealer
from jetq.errors import BadPayload, NewerVersion
from jetq.model.job import Place
from jetq.model.outcome import Cancelled, Dead, Expired, Marked, Outcome, Snoozed, Succeeded, Superseded, dead
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.operations.workflows.advancing import go_on_from
from jetq.operations.workflows.cancelling import CHANGED
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.marking import death_of, mark_failure, mark_value, standing_mark, take_back
from jetq.operations.workflows.states import call_back, state_of, stop
from jetq.operations.workflows.values import MissingValue, PassedOn, inputs_of
from jetq.operations.workflows.watching import Turn, take_turn
from jetq.worker.attempt import Attempt
from jetq.worker.workflows.lives import Lives
from jetq.worker.workflows.together import Late, Together

__all__ = ["Members", "WorkerBroker"]

_log = logging.getLogger("jetq.worker")

_STALE = 60.0
"""Seconds between the look of whoever stored a job and the storing, from which the job may be a second one: half the
window in which the broker recognizes a repeated job."""

_LOOK_AGAIN = 5.0
"""Seconds after which a member is tried again whose values are not there."""

_NEWER_WORKER = 60.0
"""Seconds after which a member is tried again whose plan only a newer jetq reads."""


class WorkerBroker(FlowBroker, Consuming, Queues, DeadLetters, Results, Cells, Protocol):
    """The parts of the broker that members use."""


class Members:
    """The members of workflows that one worker runs. held: returns the attempts that hold a slot."""

    def __init__(self, broker: WorkerBroker, sealer: Sealer, held: Callable[[], Collection[Attempt]]) -> None:
        self._broker = broker
        self._sealer = sealer
        self._held = held
        self._together = Together(broker)
        self._late = Late(self._together)
        self._lives = Lives(broker, sealer)
        self._stopping = set[asyncio.Task[None]]()

    async def listen(self) -> None:
        """Subscribe to what is told of workflows that were stopped or taken up again. Raises BrokerError."""
        await self._broker.on_signal(CHANGED, self._on_change)

    def _on_change(self, told: bytes) -> None:
        life = told.decode("ascii", "replace")
        self._lives.forget(life)
        held = [each for each in self._held() if _is_of(each, life)]
        if held:
            task = asyncio.get_running_loop().create_task(self._stop_if_told(held), name="jetq-workflow-stop")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _stop_if_told(self, held: Sequence[Attempt]) -> None:
        """Cancel the members of a workflow that was cancelled. The ledger says so; anyone may send a signal."""
        place = held[0].meta.flow
        assert place is not None
        try:
            life = await self._lives.get(place)
            if life is None or await state_of(life) != "cancelled":
                return
        except Exception as error:  # what waits is dropped when it begins, and what runs goes on to its end
            _log.warning("members of workflow %s are not cancelled: %s", place.workflow, error)
            return
        for attempt in held:
            step = life.plan.steps.get(attempt.meta.flow.step) if attempt.meta.flow is not None else None
            if step is not None and step.callback is None and not (attempt.cancelled or attempt.storing):
                attempt.cancel()

    # --- before its code runs

    async def begin(self, attempt: Attempt) -> Outcome | None:
        """Find out whether a member may begin, and read the values it takes into `attempt.values`. Return an outcome if
        its code must not run. Raises BrokerError."""
        place = attempt.meta.flow
        assert place is not None
        try:
            if attempt.delivery.task == WATCH:
                return await self._watch(attempt, place)
            return await self._begin(attempt, place)
        except (ValueError, BadPayload) as error:  # a BadRecord, or a name that cannot be one of a record
            return dead("undecodable", f"jetq.{type(error).__name__}", f"workflow {place.workflow}: {error}")
        except NewerVersion as error:
            _log.warning("%s %s waits for a newer worker: %s", attempt.name, attempt.delivery.id, error.message)
            return Snoozed(_NEWER_WORKER)

    async def _begin(self, attempt: Attempt, place: Place) -> Outcome | None:
        replayed = attempt.meta.replays > 0
        life = await self._lives.get(place)
        if life is None:
            return await self._without_workflow(attempt, place)
        if not await _is_member(life, place, attempt.delivery.id):
            return dead("undecodable", "jetq.WorkflowError", f"workflow {place.workflow} has no such member")
        life.saw(place.seen)
        step = life.plan.steps[place.step]
        mark = None
        if self._may_be_second(attempt, place) or step.callback is not None:
            mark = await standing_mark(life, place.step, place.member)
            if mark is None or replayed:
                renewed = await self._lives.renewed(place)
                if renewed is None:
                    return await self._without_workflow(attempt, place)
                life = renewed
        state = "running" if step.callback is not None else await self._lives.state(place)
        if state in ("cancelled", "expired"):
            if replayed:  # somebody waits for it
                _log.warning("%s %s is dropped: workflow %s is %s", attempt.name, place.job_id, place.workflow, state)
            return Superseded()
        # Also if the work has its value: who gave it may have died before it called back. A failure that stands is no
        # reason not to run a member that was brought back after it.
        if mark == "ok" or (mark == "bad" and not replayed):
            return Marked(mark)
        if state == "succeeded":
            return Superseded()
        if attempt.delivery.count > 1 and (settled := await self.settled_before(attempt)) is not None:
            return settled
        if step.callback is None and mark is None and await self._is_late(life, place):
            return Superseded()
        return await self._take_values(attempt, life, place)

    async def _without_workflow(self, attempt: Attempt, place: Place) -> Outcome | None:
        """Return what becomes of a member whose workflow is over: it is dropped, unless somebody has replayed its
        letter. Then it runs as a plain job. Of a workflow that is not stored nobody knows that it is over."""
        if attempt.meta.replays == 0:
            if await self._broker.read_entry(names.plan(place.home, place.workflow), surely=True) is not None:
                return Superseded()
            message = f"workflow {place.workflow}, to which it says to belong, is not stored"
            return dead("undecodable", "jetq.WorkflowError", message)
        _log.warning(
            "%s %s runs as a plain job, and its value goes nowhere: workflow %s, to which it belonged, is over",
            attempt.name, attempt.delivery.id, place.workflow,
        )  # fmt: skip
        attempt.values = []
        return None

    async def settled_before(self, attempt: Attempt) -> Marked | None:
        """Return the failure of a member whose end a worker has stored and has not marked, because it died in between;
        None if this very delivery has left neither a letter nor a record. Raises BrokerError."""
        delivery, place = attempt.delivery, attempt.meta.flow
        if place is None:
            return None
        for entry in await self._broker.dead(delivery.queue, id=delivery.id):
            if entry.letter.sequence == delivery.sequence:
                letter = entry.letter
                return Marked("bad", death_of(place.step, place.member, letter.reason, letter.failure))
        record = await self._broker.get_result(delivery.queue, delivery.id)
        if record is None or record.sequence != delivery.sequence or record.state not in ("expired", "cancelled"):
            return None
        return Marked("bad", _end_of(place, record.state))

    async def _is_late(self, life: Life, place: Place) -> bool:
        """Return whether the workflow is past its deadline; it is stopped then."""
        if self._broker.now() <= life.plan.deadline:
            return False
        renewed = await self._lives.renewed(place)  # a retry may have moved the deadline
        if renewed is None:
            return True
        if self._broker.now() <= renewed.plan.deadline:
            return False
        await stop(renewed, "expired")
        await call_back(renewed)
        return True

    def _may_be_second(self, attempt: Attempt, place: Place) -> bool:
        delivery = attempt.delivery
        stored_at = delivery.stored_at if attempt.meta.enqueued is None else attempt.meta.enqueued
        return delivery.count > 1 or place.again or attempt.meta.replays > 0 or stored_at - place.looked > _STALE

    async def _take_values(self, attempt: Attempt, life: Life, place: Place) -> Outcome | None:
        try:
            attempt.values = await inputs_of(life, place.step, place.member)
        except PassedOn as passed:
            return Marked("bad", passed.failure)
        except MissingValue as missing:
            _log.error("%s %s waits: %s of workflow %s", attempt.name, attempt.delivery.id, missing, place.workflow)
            return Snoozed(_LOOK_AGAIN)
        return None

    async def _watch(self, attempt: Attempt, place: Place) -> Outcome:
        try:
            turn = msgspec.json.decode(attempt.delivery.body, type=Turn)
        except msgspec.DecodeError:
            turn = Turn()
        born = attempt.delivery.stored_at if attempt.meta.enqueued is None else attempt.meta.enqueued
        following = await take_turn(self._broker, self._sealer, place, turn, born)
        if following is None:
            return Succeeded()
        pause, turn = following
        return Snoozed(pause, body=msgspec.json.encode(turn))

    # --- after its code has run

    async def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Mark the end of a member, and do what the mark sets off. Whatever the member leaves beside its mark is stored
        by now. May be done again. Raises BrokerError."""
        place = attempt.meta.flow
        if place is None or attempt.delivery.task == WATCH:
            return
        try:
            life = await self._lives.get(place)
        except (ValueError, BadPayload, NewerVersion) as error:
            _log.error(
                "%s %s leaves no mark: workflow %s: %s", attempt.name, attempt.delivery.id, place.workflow, error
            )
            return
        if life is None or not await _is_member(life, place, attempt.delivery.id):
            return
        if life.plan.steps[place.step].callback is None and await self._lives.state(place) == "cancelled":
            return  # its mark would tell nobody anything, and might come after the records were removed
        late = attempt.meta.replays > 0
        match outcome:
            case Succeeded(value=value):
                mark = await mark_value(life, place.step, place.member, value or b"null", late=late, called=place.seen)
            case Marked(mark=mark, failure=None):
                pass
            case _:
                failure = _failure_of(place, outcome)
                mark = None if failure is None else await mark_failure(life, failure, called=place.seen)
        if mark is None:
            return
        again = self._may_be_second(attempt, place)
        if mark == "ok" and late:
            await take_back(life, place.step, place.member)
        together = self._late if late else self._together
        await go_on_from(life, place.step, place.member, mark, together, again=again)


async def _is_member(life: Life, place: Place, id: str) -> bool:
    """Return whether a job is the member that it says to be. Anyone with the permission may have stored it."""
    if place.step not in life.plan.steps or place.job_id != id:
        return False
    members = await life.members(place.step)
    return members is not None and place.member < members


def _failure_of(place: Place, outcome: Outcome) -> Failure | None:
    """Return what the mark of a member says that has ended in that way without a value; None if it has not ended."""
    match outcome:
        case Marked(failure=Failure() as failure):
            return _of(place, failure)
        case Dead(reason=reason, failure=failure):
            return death_of(place.step, place.member, reason, failure)
        case Expired():
            return _end_of(place, "expired")
        case Cancelled():
            return _end_of(place, "cancelled")
        case _:
            return None


def _end_of(place: Place, why: Literal["expired", "cancelled"]) -> Failure:
    """Return the failure of a member whose job was ended in that way."""
    return Failure(place.step, place.member, why, "", f"the job was {why}")


def _of(place: Place, failure: Failure) -> Failure:
    """Return the failure of another step as that of the member at `place`, which takes its value."""
    return (
        failure
        if failure.step == place.step
        else Failure(place.step, place.member, failure.reason, failure.type, f"step {failure.step}: {failure.message}")
    )


def _is_of(attempt: Attempt, life: str) -> bool:
    place = attempt.meta.flow
    return place is not None and place.life == life and attempt.delivery.task != WATCH
