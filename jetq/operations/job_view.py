"""One job seen from outside: its state and history, from its queue, its result and its dead letter together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from jetq.encoding.headers import BadHeader, meta_or_default, read_meta
from jetq.encoding.worker_status import encode, read_answers
from jetq.errors import JobNotFound
from jetq.model.dead_letter import DeadEntry
from jetq.model.failure import AttemptError
from jetq.model.job import DEFAULT_META, Place, State, StoredJob
from jetq.model.names import check_queue, check_sought_id, is_of_member
from jetq.model.redaction import RedactedRepr
from jetq.model.result import ResultRecord
from jetq.model.worker_status import StatusQuery, WorkerStatus
from jetq.operations.workflows.member_ends import end_of_member

if TYPE_CHECKING:
    from jetq.broker import Broker
    from jetq.broker.dead_letters import DeadLetters
    from jetq.broker.fleet import Fleet

__all__ = ["JobView", "holder_of", "state_of", "stored_state", "view_job"]

_LEAVES_NOTHING = "a job without a kept result leaves nothing behind when it succeeds"

_IN_ITS_WORKFLOW = (
    "a step is stored when its turn comes, and leaves its value to its workflow: `jetq workflow ls` finds that, and "
    "`jetq workflow show` has its steps"
)

_HOLDER_WITHIN = 0.5
"""Seconds in which the worker that has a job answers: a round trip, and the longest that a busy loop may take."""


class JobView(RedactedRepr, Struct, frozen=True):
    """What is known of a job. Times are unix seconds; a field that is not known is None or empty."""

    id: str
    """The job's id."""

    state: State
    """Where the job is in its life."""

    task: str
    """The name of its task."""

    queue: str
    """The queue it is in, or was."""

    attempt: int
    """The number of the run that is due, going on or was the last."""

    enqueued: float | None = None
    """When the job was enqueued."""

    due: float | None = None
    """When the job is due, while it is scheduled."""

    in_line: float | None = None
    """Since when the job has waited for its limit to let it run."""

    started: float | None = None
    """When its run began, while it runs, if its worker answers."""

    ended: float | None = None
    """When the job ended."""

    worker: str = ""
    """The worker that runs the job, or ran it last."""

    errors: tuple[AttemptError, ...] = ()
    """How its attempts ended, oldest first."""

    errors_dropped: int = 0
    """How many older errors were cut."""

    snoozes: int = 0
    """How often the job was put off."""

    replays: int = 0
    """How often the job was brought back from the dead letters."""

    edits: int = 0
    """How many of those replays had other arguments."""

    body: bytes | None = None
    """The arguments as stored; None once they are gone."""

    result: ResultRecord | None = None
    """How the job ended, as long as that is kept."""

    dead: DeadEntry | None = None
    """Its dead letter."""

    place: Place | None = None
    """Its place in a workflow; None if it is in none, and once it has ended with a result."""


async def view_job(broker: Broker, id: str, *, queue: str | None = None) -> JobView:
    """Return all that is known of job `id`, which is looked for in every queue unless `queue` is given.

    A queued job counts as running once it was handed to a worker, and that worker is asked. Raises JobNotFound, and
    DefinitionError for what is no id.
    """
    check_sought_id(id)
    names = [check_queue(queue)] if queue is not None else [info.name for info in await broker.queues()]
    for name in names:
        if (found := await broker.find(name, id)) is not None:
            return await _view_stored(broker, found)
    result = await broker.get_result(queue, id)
    entry = await _newest_dead(broker, id, names if result is None else [result.queue])
    if result is not None and (entry is None or result.state == "succeeded"):
        return _ended(result)  # a replay that was cut short may leave the dead letter of a job that succeeded since
    if entry is not None:
        return _dead(entry, result)
    holders = await asyncio.gather(*(holder_of(broker, name, id) for name in names))
    for name, holder in zip(names, holders, strict=True):
        if holder is not None and (held := holder.held) is not None:  # the job was purged as it ran
            return JobView(id, "running", "", name, held.attempt, worker=holder.worker, started=held.started)
    raise JobNotFound(
        f"job {id} is not in {'any queue' if queue is None else f'queue {queue}'}, and neither its result nor a dead "
        "letter of it is kept",
        hint=_IN_ITS_WORKFLOW if is_of_member(id) else _LEAVES_NOTHING,
    )


async def _newest_dead(broker: DeadLetters, id: str, queues: Sequence[str]) -> DeadEntry | None:
    for queue in queues:
        if entries := await broker.dead(queue, id=id):
            return entries[-1]
    return None


async def holder_of(broker: Fleet, queue: str, id: str, within: float = _HOLDER_WITHIN) -> WorkerStatus | None:
    """Return the worker that has job `id`, whether the job is still in its queue or was purged. Return None if no
    worker says within `within` seconds that it has the job."""
    question = encode(StatusQuery(id=id, only_holder=True))
    answers = read_answers(await broker.ask(queue, question, within, enough=1))
    return next((answer for answer in answers if answer.held is not None), None)


async def state_of(broker: Broker, queue: str, id: str) -> State | None:
    """Return where job `id` is in its life; None if nothing is known of the job."""
    found = await broker.find(queue, id)
    if found is not None and not found.in_flight:
        return stored_state(found)
    result = await broker.get_result(queue, id)
    if found is not None:
        return result.state if result is not None and _settles(result, found) else "running"
    if result is not None:
        return result.state
    if await broker.dead(queue, id=id, limit=1):
        return "dead"
    end = await end_of_member(broker, id)
    return None if end is None else "succeeded" if end.mark == "ok" else "dead"


def stored_state(found: StoredJob) -> State:
    """Return the state of a job that is stored in its queue. A job in the line of a limit is queued, although it is
    stored as a schedule."""
    if found.in_flight:
        return "running"
    return "queued" if meta_or_default(found.delivery.headers).in_line is not None else found.state


def _settles(result: ResultRecord, found: StoredJob) -> bool:
    """Return whether `result` is the end of the job `found`, which is only not removed yet."""
    return result.sequence >= found.delivery.sequence


async def _view_stored(broker: Broker, found: StoredJob) -> JobView:
    view = _waiting(found)
    if not found.in_flight:
        return view
    result = await broker.get_result(view.queue, view.id)
    if result is not None and _settles(result, found):
        return _ended(result)
    holder = await holder_of(broker, view.queue, view.id)
    if holder is None or holder.held is None:
        return view
    return replace(view, worker=holder.worker, started=holder.held.started)


def _waiting(found: StoredJob) -> JobView:
    delivery, meta = found.delivery, DEFAULT_META
    with suppress(BadHeader):  # the worker that gets it will say so in its dead letter
        meta = read_meta(delivery.headers)
    return JobView(
        id=delivery.id,
        state=stored_state(found),
        task=delivery.task,
        queue=delivery.queue,
        attempt=meta.attempt,
        enqueued=delivery.stored_at if meta.enqueued is None else meta.enqueued,
        due=found.due if meta.in_line is None else None,
        in_line=meta.in_line,
        errors=meta.errors,
        errors_dropped=meta.errors_dropped,
        snoozes=meta.snoozes,
        replays=meta.replays,
        edits=meta.edits,
        body=delivery.body,
        place=meta.flow,
    )


def _dead(entry: DeadEntry, result: ResultRecord | None) -> JobView:
    letter = entry.letter
    return JobView(
        id=letter.id,
        state="dead",
        task=letter.task,
        queue=letter.queue,
        attempt=letter.attempt,
        enqueued=letter.enqueued,
        ended=letter.at,
        worker=letter.worker,
        errors=letter.errors,
        errors_dropped=letter.errors_dropped,
        snoozes=letter.snoozes,
        replays=letter.replays,
        edits=letter.edits,
        body=entry.body,
        result=result,
        dead=entry,
        place=meta_or_default(letter.headers).flow,
    )


def _ended(result: ResultRecord) -> JobView:
    return JobView(
        id=result.id,
        state=result.state,
        task=result.task,
        queue=result.queue,
        attempt=result.attempt,
        ended=result.at,
        worker=result.worker,
        result=result,
    )
