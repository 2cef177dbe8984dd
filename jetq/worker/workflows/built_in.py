"""The tasks of jetq itself, which each worker has: the watch of a workflow, and the start of one of a schedule."""

from __future__ import annotations

import logging

import msgspec

from jetq.encoding.sealer import Sealer
from jetq.errors import BadPayload, Denied, NewerVersion
from jetq.model.job import Place
from jetq.model.outcome import Outcome, Snoozed, Succeeded, dead
from jetq.operations.workflows.creating import START, CreateBroker
from jetq.operations.workflows.recurring import start_recurring
from jetq.operations.workflows.watching import Turn, WatchBroker, take_turn
from jetq.worker.attempt import Attempt

__all__ = ["NEWER_WORKER", "start_scheduled", "take_turn_of_watch"]

_log = logging.getLogger("jetq.worker")

NEWER_WORKER = 60.0
"""Seconds after which a job is tried again whose plan only a newer jetq reads."""


async def start_scheduled(broker: CreateBroker, sealer: Sealer, attempt: Attempt) -> Outcome:
    """Start the workflow of a time of a schedule."""
    delivery, meta = attempt.delivery, attempt.meta
    name = meta.schedule or delivery.id
    try:
        body = sealer.open_arguments(START, delivery.queue, delivery.body)
        await start_recurring(
            broker,
            sealer,
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
        return Snoozed(NEWER_WORKER)
    except Denied as error:  # a worker without the permission would run it again for ever
        return dead("failed", "jetq.Denied", error.message)
    return Succeeded()


async def take_turn_of_watch(
    broker: WatchBroker, sealer: Sealer, attempt: Attempt, place: Place, actor: str
) -> Outcome:
    """Run the watch of the workflow at `place` once. actor: names the worker where it lacks a permission."""
    try:
        turn = msgspec.json.decode(attempt.delivery.body, type=Turn)
    except msgspec.DecodeError:
        turn = Turn()
    born = attempt.delivery.stored_at if attempt.meta.enqueued is None else attempt.meta.enqueued
    following = await take_turn(broker, sealer, place, turn, born, actor)
    if following is None:
        return Succeeded()
    pause, turn = following
    return Snoozed(pause, body=msgspec.json.encode(turn))
