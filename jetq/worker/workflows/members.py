"""The members of workflows in a worker: whether one may begin and with what, and which are to be cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from msgspec.structs import replace

from jetq.broker.cells import Cells
from jetq.broker.consuming import Consuming
from jetq.broker.dead_letters import DeadLetters
from jetq.broker.queues import Queues
from jetq.broker.results import Results
from jetq.encoding.sealer import Sealer
from jetq.errors import BadPayload, NewerVersion
from jetq.model.job import Place
from jetq.model.outcome import Dead, Marked, Outcome, Snoozed, Superseded, dead
from jetq.model.workflows import names
from jetq.operations.workflows.cancelling import CHANGED
from jetq.operations.workflows.creating import START, WATCH
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.marking import death_of, standing_mark
from jetq.operations.workflows.states import call_back, state_of, stop
from jetq.operations.workflows.values import MissingValue, PassedOn, inputs_of, sources_of
from jetq.worker.attempt import Attempt
from jetq.worker.workflows.built_in import NEWER_WORKER, start_scheduled, take_turn_of_watch
from jetq.worker.workflows.ends import Ends
from jetq.worker.workflows.lives import Lives
from jetq.worker.workflows.membership import end_of, is_member, may_be_second

__all__ = ["Members", "WorkerBroker"]

_log = logging.getLogger("jetq.worker")

_LOOK_AGAIN = 5.0
"""Seconds after which a member is tried again whose values are not there."""


class WorkerBroker(FlowBroker, Consuming, Queues, DeadLetters, Results, Cells, Protocol):
    """The parts of the broker that members use."""


class Members:
    """The members of workflows that one worker, `name`, runs. held: returns the attempts that hold a slot."""

    def __init__(
        self, broker: WorkerBroker, sealer: Sealer, name: str, held: Callable[[], Collection[Attempt]]
    ) -> None:
        self._broker = broker
        self._sealer = sealer
        self._held = held
        self._actor = f"worker {name}"
        self._lives = Lives(broker, sealer, self._actor)
        self.ends = Ends(broker, sealer, self._lives)
        self._stopping = set[asyncio.Task[None]]()

    async def listen(self) -> None:
        """Subscribe to what is told of workflows that were stopped or taken up again. Raises BrokerError."""
        await self._broker.on_signal(CHANGED, self._on_change)

    def _on_change(self, told: bytes) -> None:
        life = told.decode("ascii", "replace")
        known = self._lives.forget(life)
        held = [each for each in self._held() if _is_of(each, life)]
        if held:
            task = asyncio.get_running_loop().create_task(self._stop_if_told(held, known), name="jetq-workflow-stop")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _stop_if_told(self, held: Sequence[Attempt], known: Life | None) -> None:
        """Cancel the members of a workflow that was cancelled. The ledger says so; anyone may send a signal. known: the
        workflow as it was before the signal: it may be closed by now, and another may have taken its place."""
        place = held[0].meta.flow
        assert place is not None
        try:
            life = known or await self._lives.get(place)
            if life is None or not await self._is_cancelled(life, place):
                return
        except Exception as error:  # what waits is dropped when it begins, and what runs goes on to its end
            _log.warning("members of workflow %s are not cancelled: %s", place.workflow, error)
            return
        for attempt in held:
            if not (attempt.cancelled or attempt.storing) and _is_stopped(life, attempt):
                attempt.cancel()

    async def _is_cancelled(self, life: Life, place: Place) -> bool:
        """Return whether a workflow was cancelled, or is not open any more, so that what runs for it is of no use.

        The plan is read after the state: a state that is not there any more was removed after the plan was closed.
        """
        return await state_of(life) == "cancelled" or await self._lives.renewed(place) is None

    # --- before its code runs

    async def begin(self, attempt: Attempt) -> Outcome | None:
        """Find out whether a member may begin, and read the values it takes into `attempt.values`. Return an outcome if
        its code must not run. A job of a task that each worker has is run here. Raises BrokerError."""
        if attempt.delivery.task == START:
            return await start_scheduled(self._broker, self._sealer, attempt)
        place = attempt.meta.flow
        assert place is not None
        try:
            if attempt.delivery.task == WATCH:
                return await take_turn_of_watch(self._broker, self._sealer, attempt, place, self._actor)
            return await self._begin(attempt, place)
        except (ValueError, BadPayload) as error:  # a BadRecord, or a name that cannot be one of a record
            return dead("undecodable", f"jetq.{type(error).__name__}", f"workflow {place.workflow}: {error}")
        except NewerVersion as error:
            _log.warning("%s %s waits for a newer worker: %s", attempt.name, attempt.delivery.id, error.message)
            return Snoozed(NEWER_WORKER)

    async def _begin(self, attempt: Attempt, place: Place) -> Outcome | None:
        at_hand = self._lives.at_hand(place)
        if at_hand is not None and self._may_begin_at_once(at_hand, attempt, place):
            at_hand.saw(place.seen)
            return await self._take_values(attempt, at_hand, place)
        replayed = attempt.meta.replays > 0
        life = await self._lives.open(place)
        if life is None:
            return await self._without_workflow(attempt, place)
        if not await is_member(life, place, attempt.delivery):
            return dead("undecodable", "jetq.WorkflowError", f"workflow {place.workflow} has no such member")
        life.saw(place.seen)
        step = life.plan.steps[place.step]
        mark = None
        if may_be_second(attempt, place) or step.callback is not None:
            mark = await standing_mark(life, place.step, place.member)
            if mark is None or replayed:
                renewed = await self._lives.open(place, anew=True)
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

    def _may_begin_at_once(self, life: Life, attempt: Attempt, place: Place) -> bool:
        """Return whether nothing has to be asked to know that a member may begin, as most may: it is delivered for the
        first time, and its workflow is known to run."""
        if may_be_second(attempt, place) or place.job_id != attempt.delivery.id:
            return False
        step = life.plan.steps.get(place.step)
        if step is None or step.call is None or step.call.task != attempt.delivery.task:
            return False
        if step.callback is not None or self._broker.now() > life.plan.deadline:
            return False
        members = life.members_at_hand(place.step)
        return members is not None and place.member < members

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
        return Marked("bad", end_of(place, record.state))

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

    async def _take_values(self, attempt: Attempt, life: Life, place: Place) -> Outcome | None:
        try:
            attempt.values = await inputs_of(life, place.step, place.member)
        except PassedOn as passed:
            return Marked("bad", passed.failure)
        except MissingValue as missing:
            _log.error("%s %s waits: %s of workflow %s", attempt.name, attempt.delivery.id, missing, place.workflow)
            return Snoozed(_LOOK_AGAIN)
        return None

    async def blamed(self, attempt: Attempt, outcome: Outcome | None) -> Outcome | None:
        """Return `outcome`, what became of reading the arguments of a member. If they do not fit, it says of which
        steps they are. Raises BrokerError."""
        place = attempt.meta.flow
        if (
            place is None
            or attempt.values is None
            or not isinstance(outcome, Dead)
            or outcome.reason != "bad-arguments"
        ):
            return outcome
        life = await self._lives.get(place)
        if life is None:
            return outcome
        failure = outcome.failure
        clause = sources_of(life.plan.steps[place.step], failure.message)
        return replace(outcome, failure=replace(failure, message=f"{failure.message}{clause}"))


def _is_stopped(life: Life, attempt: Attempt) -> bool:
    """Return whether a member ends with its workflow. A callback does not."""
    step = life.plan.steps.get(attempt.meta.flow.step) if attempt.meta.flow is not None else None
    return step is not None and step.callback is None


def _is_of(attempt: Attempt, life: str) -> bool:
    place = attempt.meta.flow
    return place is not None and place.life == life and attempt.delivery.task != WATCH
