"""Starting a workflow at each time of a schedule."""

from __future__ import annotations

import hashlib

from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import read_recurring
from jetq.model.names import LONGEST_ID, new_life
from jetq.model.schedule import time_token
from jetq.operations.workflows.creating import CreateBroker, create

__all__ = ["start_recurring", "workflow_of_time"]


def workflow_of_time(queue: str, schedule: str, time: str) -> str:
    """Return the id of the workflow that a schedule starts at a time: `nightly-20300101T020000`. In another queue than
    `default` the id begins with the queue, because each queue may have a schedule of that name."""
    name = schedule.replace(".", ":")  # no name of a schedule has two of these in a row
    if queue != "default":
        name = f"{queue}::{name}"
    if len(name) + len(time) + 1 > LONGEST_ID:
        name = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name}-{time}"


async def start_recurring(
    broker: CreateBroker, sealer: Sealer, body: bytes, *, queue: str, schedule: str, nominal: float | None, job: str
) -> None:
    """Start the workflow of a time of `schedule`, unless it was started. body: the recurring plan as JSON. nominal: the
    time, in unix seconds; None for a start besides the times, whose workflow is named for its `job`.

    Raises what an enqueue raises, if the plan is not stored, BadRecord, NewerVersion.

    Guarantee: tests/faults/test_flow_schedule.py: whoever dies at any step of this, each time has one workflow.
    """
    recurring = read_recurring(body, schedule)
    workflow = workflow_of_time(queue, schedule, job if nominal is None else time_token(nominal))
    plan = recurring.plan(new_life(), broker.now())
    bodies = {name: [bytes(each) for each in members] for name, members in recurring.bodies.items()}
    await create(broker, sealer, workflow, plan, bodies)
