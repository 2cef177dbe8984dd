"""Giving another due time to a job that waits for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from jetq.model.job import State

if TYPE_CHECKING:
    from jetq.broker.clock import Clock
    from jetq.broker.queues import Queues

    class _Broker(Queues, Clock, Protocol):
        """The part of the broker that is needed here."""


__all__ = ["move_job"]


async def move_job(broker: _Broker, queue: str, id: str, due: float | None) -> State | None:
    """Give a scheduled job, or a retry that waits, another due time (unix seconds, None: now).

    Return the job's state then, "scheduled" or "queued". Return None, and change nothing, if the job was not scheduled
    any more.
    """
    found = await broker.find(queue, id)
    if found is None or found.due is None:
        return None
    if due is None or due <= broker.now():
        if await broker.release(found):
            return "queued"
    elif await broker.move(found, due):
        return "scheduled"
    return "queued" if found.due < broker.now() + broker.fire_window else None
