"""Cancelling a workflow: it is stopped by one write, and then whoever works for it is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal, Protocol

from jetq.broker.cells import Cells
from jetq.broker.queues import Queues
from jetq.encoding.sealer import Sealer
from jetq.errors import BrokerError, BrokerUnavailable, Rejected
from jetq.model.job import StoredJob
from jetq.model.workflows.records import WorkflowState
from jetq.operations.workflows.creating import watch_job
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.states import stop

__all__ = ["CHANGED", "CancelBroker", "cancel", "tell", "wake_watch"]

CHANGED = "workflow"
"""The topic of the signals that tell workers which life was stopped or taken up again: they look at it anew. A worker
that misses the signal looks when it begins the next member of that life."""


_AT_ONCE = 100
"""Members that are removed together."""

_LOOKS, _PAUSE = 20, 0.1
"""Looks at a watch that is taking its turn, and seconds between them. A turn takes some answers of the broker."""


class CancelBroker(FlowBroker, Queues, Cells, Protocol):
    """The parts of the broker that a cancel uses."""


async def cancel(broker: CancelBroker, sealer: Sealer, workflow: str) -> Literal["cancelled", "finished"]:
    """Stop a workflow. Return "finished" if it had ended before with its value, or has expired; a workflow that has
    failed is stopped too, and cannot be retried any more.

    Its members that wait are not started, and those that run are cancelled. May be repeated. In a store without room,
    the members that wait are removed first. Raises JobNotFound, and Rejected if that makes no room.

    Guarantee: tests/integration/workflows/test_cancel.py: either the workflow has its value, or it is cancelled, and
    the answer says which.
    """
    life, found = await open_life(broker, sealer, workflow)
    if life is None:
        assert found.closed is not None
        return _answer(found.closed.closed)
    try:
        state = await stop(life, "cancelled")
    except Rejected as error:
        if isinstance(error, BrokerUnavailable) or not await _make_room(broker, life):
            raise
        state = await stop(life, "cancelled")
    if state == "cancelled":
        await tell(broker, life)
        await wake_watch(broker, life)  # it calls back, because who may cancel may not enqueue what is called back
    return _answer(state)


async def _make_room(broker: CancelBroker, life: Life) -> int:
    """Remove the members that wait, and return how many. Should the workflow go on after all, its watch stores them
    again: a full store refuses what is written, and removes what it is told to (nats-server 2.15.1,
    tests/faults/test_flow_full.py)."""
    removed = 0
    for queue in sorted({step.call.queue for step in life.plan.steps.values() if step.call is not None}):
        stored = await broker.stored_jobs(queue)
        waiting = [job.delivery for job in stored if _waits(job, life)]
        for start in range(0, len(waiting), _AT_ONCE):
            together = (broker.remove(queue, each.sequence) for each in waiting[start : start + _AT_ONCE])
            removed += sum(await asyncio.gather(*together))
    return removed


def _waits(job: StoredJob, life: Life) -> bool:
    id = job.delivery.id
    return id.startswith(f"{life.id}:") and id != watch_job(life).id and not job.in_flight


def _answer(state: WorkflowState) -> Literal["cancelled", "finished"]:
    return "cancelled" if state == "cancelled" else "finished"


async def tell(broker: Cells, life: Life) -> None:
    """Tell the workers that they are to look at the state of a life anew."""
    with suppress(BrokerError):  # a signal may be lost in any case
        await broker.signal(CHANGED, life.id.encode())


async def wake_watch(broker: CancelBroker, life: Life, after: float = 0.0) -> None:
    """Let the watch take its next turn in `after` seconds, or as soon as possible. A watch that is gone is stored
    anew."""
    for _ in range(_LOOKS):
        found = await broker.find(life.home, watch_job(life).id)
        if found is None:
            await broker.enqueue(watch_job(life, again=True), due=broker.now() + after if after else None)
            return
        if found.due is not None and found.due <= broker.now() + max(after, broker.fire_window):
            return
        if found.due is not None and await (
            broker.move(found, broker.now() + after) if after else broker.release(found)
        ):
            return
        if found.due is None and not found.in_flight:  # it waits for its turn
            return
        await asyncio.sleep(_PAUSE)  # its turn may have begun before, and it would sleep for long after it
