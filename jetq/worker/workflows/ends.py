"""The end of a member of a workflow in a worker: its mark, and what the mark sets off."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord
from jetq.errors import BadPayload, BrokerError, NewerVersion
from jetq.model.job import Place
from jetq.model.outcome import Cancelled, Dead, Expired, Marked, Outcome, Succeeded
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Mark
from jetq.operations.workflows.advancing import go_on_from, sets_little_off
from jetq.operations.workflows.closing import purge_if_closed
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.marking import death_of, mark_failure, mark_value, take_back
from jetq.operations.workflows.values import MissingValue
from jetq.worker.attempt import Attempt
from jetq.worker.workflows.lives import Lives
from jetq.worker.workflows.membership import end_of, is_member, may_be_second
from jetq.worker.workflows.together import Late, Together

__all__ = ["Ends"]

_log = logging.getLogger("jetq.worker")

_SLOW = 1.0
"""Seconds for which a member leaves its mark and sets off what follows, after which it is looked whether the workflow
was closed meanwhile: what is written after that would stay."""


class Ends:
    """The ends of the members that one worker runs."""

    def __init__(self, broker: FlowBroker, sealer: Sealer, lives: Lives) -> None:
        self._broker = broker
        self._sealer = sealer
        self._lives = lives
        self._together = Together(broker)
        self._late = Late(self._together)

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
            life = await self._lives.open(place)
        except (ValueError, BadPayload, NewerVersion) as error:
            _log.error(
                "%s %s leaves no mark: workflow %s: %s", attempt.name, attempt.delivery.id, place.workflow, error
            )
            return
        if life is None or not await is_member(life, place, attempt.delivery):
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

    async def _set_off(self, attempt: Attempt, place: Place, life: Life, mark: Mark) -> None:
        """Do what the mark of a member sets off. Raises BrokerError, MissingValue, BadRecord."""
        late, again, looked = attempt.meta.replays > 0, may_be_second(attempt, place), attempt.unmarked_at
        assert looked is not None
        if mark == "ok" and late:
            await take_back(life, place.step, place.member)
        together = self._late if late else self._together
        await go_on_from(
            life,
            place.step,
            place.member,
            mark,
            together,
            looked=looked,
            again=again,
            counted=attempt.counted,
            called=place.seen,
        )

    async def _may_be_closed(self, place: Place) -> bool:
        """Return whether there is a reason to ask whether the workflow was closed meanwhile: it was cancelled, the
        worker was told so, or what it knows is old, as after it was stopped for a while."""
        try:
            return await self._lives.open(place) is None or await self._lives.state(place) == "cancelled"
        except (ValueError, BadPayload, NewerVersion):  # of another plan in its place
            return True


def _failure_of(place: Place, outcome: Outcome) -> Failure | None:
    """Return what the mark of a member says that has ended in that way without a value; None if it has not ended."""
    match outcome:
        case Marked(failure=Failure() as failure):
            return _of(place, failure)
        case Dead(reason=reason, failure=failure):
            return death_of(place.step, place.member, reason, failure)
        case Expired():
            return end_of(place, "expired")
        case Cancelled():
            return end_of(place, "cancelled")
        case _:
            return None


def _of(place: Place, failure: Failure) -> Failure:
    """Return the failure of another step as that of the member at `place`, which takes its value."""
    return (
        failure
        if failure.step == place.step
        else Failure(place.step, place.member, failure.reason, failure.type, f"step {failure.step}: {failure.message}")
    )
