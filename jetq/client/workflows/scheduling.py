"""A work that a schedule starts again and again."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from jetq.client.call import Work
from jetq.client.workflows.parts import check_work
from jetq.client.workflows.shape import shape
from jetq.encoding.workflows import encode_recurring
from jetq.errors import DefinitionError
from jetq.model.definitions.options import Seconds
from jetq.model.definitions.schedule import Schedule
from jetq.model.schedule import ScheduleRecord
from jetq.model.workflows.plan import EXPIRES
from jetq.model.workflows.recurring import MOST_BYTES, RecurringPlan
from jetq.operations.workflows.creating import START, home_of
from jetq.units import seconds

__all__ = ["recurring_work"]


def recurring_work(
    name: str, work: Work[Any], schedule: Schedule, expires: Seconds | None
) -> tuple[ScheduleRecord, bytes]:
    """Return the record of a schedule that starts `work`, and the plan, which is the argument of its jobs, as JSON.
    expires: seconds from each start to the deadline of its workflow; None for 31 days.

    Raises WorkflowError for a work that cannot be a workflow, DefinitionError for a plan of more than 64 KiB, and for a
    schedule without overlap.
    """
    check_work(work)
    if schedule.overlap == "skip":
        raise DefinitionError(
            f"schedule {name} starts workflows, and those may overlap: overlap='skip' is about one job",
            hint="leave it off, and give the workflows times that are far enough apart",
        )
    shaped = shape(work)
    recurring = RecurringPlan(
        value=shaped.value,
        steps=shaped.steps,
        bodies={step: [Raw(body) for body in bodies] for step, bodies in shaped.bodies.items()},
        expires=EXPIRES if expires is None else seconds(expires, "expires"),
        keep=shaped.keep,
    )
    body = encode_recurring(recurring)
    if len(body) > MOST_BYTES:
        raise DefinitionError(
            f"the plan of schedule {name} has {len(body):,} bytes, and a plan that is scheduled at most {MOST_BYTES:,}",
            hint="let a first step return the items, each(task, items.bind().out), or schedule a task that stores the "
            "workflow",
        )
    return schedule.record(name, queue=home_of(shaped.steps), task=START, source="runtime"), body
