"""Why a job is not running: each thing in its way, as a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from jetq.encoding.worker_status import encode, read_answers
from jetq.model.queue_info import QueueInfo
from jetq.model.worker_status import StatusQuery, WorkerStatus
from jetq.operations.job_view import JobView, view_job
from jetq.operations.workflows.creating import BUILT_IN, WATCH
from jetq.units import span

if TYPE_CHECKING:
    from jetq.broker import Broker

__all__ = ["Diagnosis", "diagnose"]

_WORKERS_WITHIN = 0.5

_WAITS = {
    "limit": "as many of its task or key run as its limit allows",
    "rate": "for its turn in the rate of its task",
    "pause": "its task or key is paused, because a job of it was told to come later (RateLimited)",
    "slots": "for a slot of the worker",
}


class Diagnosis(Struct, frozen=True):
    """A job as it is now, and the reasons why it does not run, the nearest reason first."""

    job: JobView
    reasons: tuple[str, ...]


async def diagnose(broker: Broker, id: str, *, queue: str | None = None) -> Diagnosis:
    """Find out why job `id` does not run. Raises JobNotFound."""
    job = await view_job(broker, id, queue=queue)
    return Diagnosis(job, (*await _reasons(broker, job), *_belongs(job)))


async def _reasons(broker: Broker, job: JobView) -> Sequence[str]:
    if job.state not in ("scheduled", "queued", "running"):
        return [_ended(job)]
    question = encode(StatusQuery(id=job.id, task=job.task))
    workers = read_answers(await broker.ask(job.queue, question, _WORKERS_WITHIN))
    if job.state == "running":
        return [_running(job, workers)]
    info = next(info for info in await broker.queues() if info.name == job.queue)
    now = broker.now()
    live = [each for each in workers if not each.stopping]
    reasons = [*_unknown(job, live), *_not_due(job, now), *_in_line(job, now), *_paused(info, now)]
    reasons += [] if live else [_no_worker(job)]
    if not reasons:
        reasons.append(_waits(info, workers))
    return reasons


def _belongs(job: JobView) -> list[str]:
    if job.place is None or job.task == WATCH:
        return []
    place = job.place
    return [
        f"it is member {place.member} of step {place.step} of workflow {place.workflow}; "
        f"`jetq workflow show {place.workflow}` shows what that waits for"
    ]


def _ended(job: JobView) -> str:
    match job.state:
        case "dead":
            return f"it is dead: `jetq dlq show {job.id}` says why, and `jetq dlq replay {job.id}` runs it again"
        case "cancelled":
            return "it was cancelled"
        case "expired":
            return "it was not started before it expired"
        case _:
            return "it has succeeded"


def _running(job: JobView, workers: Sequence[WorkerStatus]) -> str:
    for each in workers:
        if each.held is not None and each.held.started is not None:
            ending = ", and was told to end" if each.held.cancelled else ""
            return f"it is running, on {each.worker}{ending}"
        if each.held is not None and each.held.waits in _WAITS:
            return f"worker {each.worker} has it, and it waits: {_WAITS[each.held.waits]}"
        if each.held is not None:
            return (
                f"worker {each.worker} has it and has not started it: it was handed out before and may have ended its "
                "worker, and such jobs are run one at a time"
            )
    return (
        "it was handed to a worker that does not answer: if that one is gone, it is handed out again when its lease "
        "has lapsed"
    )


def _not_due(job: JobView, now: float) -> list[str]:
    if job.due is None:
        return []
    after = ""
    if job.errors:
        error = job.errors[-1]
        after = f": attempt {error.attempt} failed with {error.type}"
    elif job.place is not None and job.task == WATCH:
        after = f": it is no step of workflow {job.place.workflow}, and looks now and then whether that goes on"
    elif job.snoozes and job.place is not None:
        after = ": it was put off by its task, or a value that it takes was not there"
    elif job.snoozes:
        after = ": it was put off by its task"
    what = f"attempt {job.attempt}" if job.attempt > 1 else "it"
    return [f"{what} is due in {span(job.due - now)}{after}"]


def _in_line(job: JobView, now: float) -> list[str]:
    if job.in_line is None:
        return []
    return [
        f"it has waited in line for the limit, rate or pause of its task for {span(now - job.in_line)}, and is called "
        "up when its turn comes"
    ]


def _paused(info: QueueInfo, now: float) -> list[str]:
    if info.paused_until is None:
        return []
    end = "" if math.isinf(info.paused_until) else f" and goes on in {span(info.paused_until - now)}"
    return [f"queue {info.name} is paused{end}; `jetq queue resume {info.name}` ends that"]


def _unknown(job: JobView, live: Sequence[WorkerStatus]) -> list[str]:
    if job.task in BUILT_IN:
        return []  # every worker runs it
    if not live or any(each.can_run for each in live):
        return []
    names = ", ".join(each.worker for each in live[:3])
    module = job.task.rpartition(".")[0] or "MODULE"
    return [
        f"no worker of queue {job.queue} knows task {job.task}; `jetq worker {module}` starts one that imports it"
        f" (there {'is' if len(live) == 1 else 'are'} {len(live)}: {names}{' and more' if len(live) > 3 else ''})"
    ]


def _no_worker(job: JobView) -> str:
    return f"no live worker serves queue {job.queue}; `jetq worker ... -q {job.queue}` starts one"


def _waits(info: QueueInfo, workers: Sequence[WorkerStatus]) -> str:
    slots = sum(each.slots for each in workers)
    busy = sum(each.busy for each in workers)
    if busy >= slots:
        return f"all {slots} slots of the {len(workers)} workers are busy, and {info.ready} jobs are ready"
    return f"it is its turn: {slots - busy} of {slots} slots are free, and {info.ready} jobs are ready"
