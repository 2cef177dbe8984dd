"""A member of a workflow in a worker: whether it may begin and with what, and what its end sets off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from jetq.broker.cells import Cells
from jetq.broker.consuming import Consuming
from jetq.broker.dead_letters import DeadLetters
from jetq.broker.queues import Queues
from jetq.broker.results import Results
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord
from jetq.errors import BadPayload, BrokerError, Denied, NewerVersion
from jetq.model.job import Delivery, Place
from jetq.model.outcome import Cancelled, Dead, Expired, Marked, Outcome, Snoozed, Succeeded, Superseded, dead
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Mark
from jetq.operations.workflows.advancing import go_on_from, sets_little_off
from jetq.operations.workflows.cancelling import CHANGED
from jetq.operations.workflows.closing import purge_if_closed
from jetq.operations.workflows.creating import START, WATCH
from jetq.operations.workflows.firing import STALE
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import former_plan
from jetq.operations.workflows.marking import death_of, mark_failure, mark_value, standing_mark, take_back
from jetq.operations.workflows.recurring import start_recurring
from jetq.operations.workflows.states import call_back, state_of, stop
from jetq.operations.workflows.values import MissingValue, PassedOn, inputs_of, sources_of
from jetq.operations.workflows.watching import Turn, take_turn
from jetq.worker.attempt import Attempt
from jetq.worker.workflows.lives import Lives
from jetq.worker.workflows.together import Late, Together

__all__ = ["Members", "WorkerBroker"]

_log = logging.getLogger("jetq.worker")

_SLOW = 1.0
"""Seconds for which a member leaves its mark and sets off what follows, after which it is looked whether the workflow
was closed meanwhile: what is written after that would stay."""

_LOOK_AGAIN = 5.0
"""Seconds after which a member is tried again whose values are not there."""

_NEWER_WORKER = 60.0
"""Seconds after which a member is tried again whose plan only a newer jetq reads."""


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
        self._together = Together(broker)
        self._late = Late(self._together)
        self._actor = f"worker {name}"
        self._lives = Lives(broker, sealer, self._actor)
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
            return await self._start(attempt)
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
        at_hand = self._lives.at_hand(place)
        if at_hand is not None and self._may_begin_at_once(at_hand, attempt, place):
            at_hand.saw(place.seen)
            return await self._take_values(attempt, at_hand, place)
        replayed = attempt.meta.replays > 0
        life = await self._life(place)
        if life is None:
            return await self._without_workflow(attempt, place)
        if not await _is_member(life, place, attempt.delivery):
            return dead("undecodable", "jetq.WorkflowError", f"workflow {place.workflow} has no such member")
        life.saw(place.seen)
        step = life.plan.steps[place.step]
        mark = None
        if self._may_be_second(attempt, place) or step.callback is not None:
            mark = await standing_mark(life, place.step, place.member)
            if mark is None or replayed:
                renewed = await self._life(place, anew=True)
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

    async def _life(self, place: Place, *, anew: bool = False) -> Life | None:
        """Return the workflow of a member; None if it is not open. To its callbacks a workflow is open also after it
        has ended and another was stored in its place. `anew`: as it is now."""
        life = await (self._lives.renewed(place) if anew else self._lives.get(place))
        if life is not None:
            return life
        found = await former_plan(self._broker, self._sealer, place.workflow, place.home, place.life)
        step = None if found is None or found.plan is None else found.plan.steps.get(place.step)
        if found is None or found.plan is None or step is None or step.callback is None:
            return None
        return Life(self._broker, self._sealer, place.workflow, place.home, found.plan, found.sequence)

    def _may_begin_at_once(self, life: Life, attempt: Attempt, place: Place) -> bool:
        """Return whether nothing has to be asked to know that a member may begin, as most may: it is delivered for the
        first time, and its workflow is known to run."""
        if self._may_be_second(attempt, place) or place.job_id != attempt.delivery.id:
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
        return delivery.count > 1 or place.again or attempt.meta.replays > 0 or stored_at - place.looked > STALE

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

    async def _start(self, attempt: Attempt) -> Outcome:
        """Start the workflow of a time of a schedule."""
        delivery, meta = attempt.delivery, attempt.meta
        name = meta.schedule or delivery.id
        try:
            body = self._sealer.open_arguments(START, delivery.queue, delivery.body)
            await start_recurring(
                self._broker,
                self._sealer,
                body,
                queue=delivery.queue,
                schedule=name,
                nominal=meta.nominal,
                job=delivery.id,
            )
        except (ValueError, BadPayload) as error:
            return dead("undecodable", f"jetq.{type(error).__name__}", f"the workflow of schedule {name}: {error}")
        except NewerVersion as error:
            _log.warning("%s %s waits for a newer worker: %s", attempt.name, delivery.id, error.message)
            return Snoozed(_NEWER_WORKER)
        except Denied as error:  # a worker without the permission would run it again for ever
            return dead("failed", "jetq.Denied", error.message)
        return Succeeded()

    async def _watch(self, attempt: Attempt, place: Place) -> Outcome:
        try:
            turn = msgspec.json.decode(attempt.delivery.body, type=Turn)
        except msgspec.DecodeError:
            turn = Turn()
        born = attempt.delivery.stored_at if attempt.meta.enqueued is None else attempt.meta.enqueued
        following = await take_turn(self._broker, self._sealer, place, turn, born, self._actor)
        if following is None:
            return Succeeded()
        pause, turn = following
        return Snoozed(pause, body=msgspec.json.encode(turn))

    # --- after its code has run

    def send(self, attempt: Attempt, outcome: Succeeded, on_done: Callable[[bool], None]) -> bool:
        """Do what `ended` does, without waiting, with the success of a member whose end most likely sets nothing off.

        on_done: called later, and never during this call: with True if all is done, with False if `ended` has to do it,
        or the rest. Returns False, with nothing done, if that is not possible.
        """
        place = attempt.meta.flow
        assert place is not None
        life = None if attempt.meta.replays or attempt.delivery.task == WATCH else self._lives.at_hand(place)
        if life is None or place.step not in life.plan.steps or place.job_id != attempt.delivery.id:
            return False
        members, sizes = life.members_at_hand(place.step), life.pages_at_hand(place.step)
        if members is None or sizes is None or not place.member < members or not sets_little_off(life, place.step):
            return False
        page, size = life.page_among(sizes, place.step, place.member)

        def on_mark(written: int | BrokerError | None) -> None:
            if isinstance(written, int):
                life.saw(written)
                self._together.count(names.count(life.id, place.step, page), on_count)
            else:
                on_done(False)

        def on_count(count: int | Exception) -> None:
            if isinstance(count, int):
                attempt.counted = count
            on_done(isinstance(count, int) and count < size)

        attempt.unmarked_at = self._broker.now()
        value = outcome.value or b"null"
        body = value if life.sealer.codec is None else life.sealer.seal_mark(life.id, place.step, place.member, value)
        name = names.ok(life.id, place.step, page, place.member)
        either = names.mark(life.id, place.step, page, place.member)
        return self._broker.send_entry(name, body, on_mark, on=either, ttl=life.ttl)

    async def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Mark the end of a member, and do what the mark sets off. Whatever the member leaves beside its mark is stored
        by now. May be done again. Raises BrokerError."""
        place = attempt.meta.flow
        if place is None or attempt.delivery.task == WATCH:
            return
        try:
            life = await self._life(place)
        except (ValueError, BadPayload, NewerVersion) as error:
            _log.error(
                "%s %s leaves no mark: workflow %s: %s", attempt.name, attempt.delivery.id, place.workflow, error
            )
            return
        if life is None or not await _is_member(life, place, attempt.delivery):
            return
        if life.plan.steps[place.step].callback is None and await self._lives.state(place) == "cancelled":
            return  # its mark would tell nobody anything, and might come after the records were removed
        late = attempt.meta.replays > 0
        if attempt.unmarked_at is None:  # what is done here may be repeated for minutes, while the broker is away
            attempt.unmarked_at = self._broker.now()
        mark: Mark | None = "ok"
        match outcome:
            case Succeeded() if attempt.counted is not None:
                pass
            case Succeeded(value=value):
                mark = await mark_value(life, place.step, place.member, value or b"null", late=late, called=place.seen)
            case Marked(mark=mark, failure=None):
                pass
            case _:
                failure = _failure_of(place, outcome)
                mark = None if failure is None else await mark_failure(life, failure, called=place.seen)
        if mark is None:
            return
        try:
            await self._set_off(attempt, place, life, mark)
        except (MissingValue, BadRecord):  # what is needed has gone with all the others
            if not await purge_if_closed(self._broker, self._sealer, place, life.seen):
                raise
        else:
            if self._broker.now() - attempt.unmarked_at > _SLOW or await self._may_be_closed(place):
                await purge_if_closed(self._broker, self._sealer, place, life.seen)

    async def lapsed(self, attempt: Attempt) -> None:
        """Remove what a member, whose lease has lapsed on the way, has written of a workflow that was closed
        meanwhile."""
        place = attempt.meta.flow
        assert place is not None
        try:
            await purge_if_closed(self._broker, self._sealer, place, place.seen)
        except (BrokerError, ValueError, BadPayload, NewerVersion) as error:
            _log.warning("what may be left of workflow %s is not removed: %s", place.workflow, error)

    async def _set_off(self, attempt: Attempt, place: Place, life: Life, mark: Literal["ok", "bad"]) -> None:
        """Do what the mark of a member sets off. Raises BrokerError, MissingValue, BadRecord."""
        late, again, looked = attempt.meta.replays > 0, self._may_be_second(attempt, place), attempt.unmarked_at
        assert looked is not None
        if mark == "ok" and late:
            await take_back(life, place.step, place.member)
        together = self._late if late else self._together
        await go_on_from(
            life, place.step, place.member, mark, together, looked=looked, again=again, counted=attempt.counted
        )

    async def _may_be_closed(self, place: Place) -> bool:
        """Return whether there is a reason to ask whether the workflow was closed meanwhile: it was cancelled, the
        worker was told so, or what it knows is old, as after it was stopped for a while."""
        try:
            return await self._life(place) is None or await self._lives.state(place) == "cancelled"
        except (ValueError, BadPayload, NewerVersion):  # of another plan in its place
            return True


async def _is_member(life: Life, place: Place, job: Delivery) -> bool:
    """Return whether a job is the member that it says to be. Anyone with the permission may have stored it, also with
    another task than that of the step."""
    step = life.plan.steps.get(place.step)
    if step is None or step.call is None or step.call.task != job.task or place.job_id != job.id:
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


def _is_stopped(life: Life, attempt: Attempt) -> bool:
    """Return whether a member ends with its workflow. A callback does not."""
    step = life.plan.steps.get(attempt.meta.flow.step) if attempt.meta.flow is not None else None
    return step is not None and step.callback is None


def _is_of(attempt: Attempt, life: str) -> bool:
    place = attempt.meta.flow
    return place is not None and place.life == life and attempt.delivery.task != WATCH
