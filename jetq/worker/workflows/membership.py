"""What a job says of itself, held against its workflow."""

from __future__ import annotations

from typing import Literal

from jetq.model.job import Delivery, Place
from jetq.model.workflows.failure import Failure
from jetq.operations.workflows.firing import STALE
from jetq.operations.workflows.life import Life
from jetq.worker.attempt import Attempt

__all__ = ["end_of", "is_member", "may_be_second"]


async def is_member(life: Life, place: Place, job: Delivery) -> bool:
    """Return whether a job is the member that it says to be. Anyone with the permission may have stored it, also with
    another task than that of the step."""
    step = life.plan.steps.get(place.step)
    if step is None or step.call is None or step.call.task != job.task or place.job_id != job.id:
        return False
    members = await life.members(place.step)
    return members is not None and place.member < members


def may_be_second(attempt: Attempt, place: Place) -> bool:
    """Return whether the member may have run before, or be stored twice, so that it has to look for its mark."""
    delivery = attempt.delivery
    stored_at = delivery.stored_at if attempt.meta.enqueued is None else attempt.meta.enqueued
    return delivery.count > 1 or place.again or attempt.meta.replays > 0 or stored_at - place.looked > STALE


def end_of(place: Place, why: Literal["expired", "cancelled"]) -> Failure:
    """Return the failure of a member whose job was ended in that way."""
    return Failure(place.step, place.member, why, "", f"the job was {why}")
