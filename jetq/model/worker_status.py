"""What workers are asked while they run, and what they answer. Not stored, but both sides may be of different versions:
the names on the wire, which `field(name=)` keeps, never change."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import msgspec
from msgspec import Struct, field

from jetq.model.bounds import check_numbers, is_too_deep

__all__ = [
    "HeldJob", "StatusQuery", "WorkerStatus", "encode", "own_version", "read_answers", "read_query", "waits_for_itself",
]  # fmt: skip


class StatusQuery(Struct, frozen=True, omit_defaults=True):
    """What the workers of a queue are asked, about one job and some tasks as far as they are given."""

    id: str | None = None
    """The job."""

    task: str | None = None
    """A task: whether the worker can run it."""

    only_holder: bool = field(name="holders", default=False)
    """Only a worker that has the job is to answer."""

    tasks: tuple[str, ...] = ()
    """Tasks: which of them the worker cannot run."""


class HeldJob(Struct, frozen=True, omit_defaults=True):
    """A job as its worker has it."""

    attempt: int = 1
    """Its number, from 1."""

    started: float | None = None
    """Unix seconds; None while it waits for its turn."""

    cancelled: bool = False
    """Somebody has asked for its end."""

    waits: str = ""
    """For what it waits; empty if for nothing."""


class WorkerStatus(Struct, frozen=True, omit_defaults=True):
    """A worker as it is now."""

    worker: str
    """Its name."""

    host: str
    """The name of its machine."""

    pid: int
    """Its process id."""

    version: str
    """Of jetq; empty if it runs from its sources."""

    since: float
    """When it started, in unix seconds."""

    slots: int
    """How many jobs it can run at once."""

    busy: int
    """How many of its slots run jobs."""

    queues: tuple[str, ...] = ()
    """The queues it serves."""

    stopping: bool = False
    """It takes no more jobs."""

    can_run: bool | None = field(name="knows", default=None)
    """Whether it can run the `task` that was asked for; None if none was."""

    held: HeldJob | None = None
    """The job that was asked for, if it has it."""

    missing_tasks: tuple[str, ...] | None = field(name="lacks", default=None)
    """Those of the `tasks` that were asked for which it cannot run. Older versions do not tell: None."""

    now: float | None = None
    """Its clock, in unix seconds. Older versions do not tell: None."""


encode = msgspec.json.Encoder().encode
_decode_query = msgspec.json.Decoder(StatusQuery).decode
_decode_answer = msgspec.json.Decoder(WorkerStatus).decode


def read_query(data: bytes) -> StatusQuery | None:
    """Return the query that a message holds, or None if it holds none."""
    try:
        return None if is_too_deep(data) else _decode_query(data)
    except (ValueError, RecursionError):  # msgspec.DecodeError and UnicodeError are ValueErrors
        return None


def read_answers(replies: Iterable[bytes]) -> list[WorkerStatus]:
    """The answers among `replies`, by the workers' names."""
    answers = []
    for reply in replies:
        try:
            if not is_too_deep(reply):
                answers.append(_checked(_decode_answer(reply)))
        except (ValueError, RecursionError):
            continue  # anyone with the permission may answer there
    return sorted(answers, key=lambda answer: answer.worker)


def _checked(answer: WorkerStatus) -> WorkerStatus:
    check_numbers(answer, counts=("slots", "busy"), times=("since", "now"))
    if answer.held is not None:
        check_numbers(answer.held, counts=("attempt",), times=("started",))
    return answer


def waits_for_itself(answers: Iterable[WorkerStatus], worker: str) -> bool:
    """Whether a job of `worker` that waits for another may keep that one from its slot: nobody has begun it, all slots
    of its queue's workers are taken, and `worker` is one of them. answers: to the question for the other."""
    answers = list(answers)
    begun = any(answer.held is not None and answer.held.started is not None for answer in answers)
    full = all(answer.busy >= answer.slots for answer in answers)
    return full and not begun and any(answer.worker == worker for answer in answers)


def own_version() -> str:
    """That of the installed package; empty when it is run from its sources alone."""
    try:
        return version("jetq-nats")
    except PackageNotFoundError:
        return ""
