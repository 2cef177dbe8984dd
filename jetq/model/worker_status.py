"""What workers are asked while they run, and what they answer. Not stored: both sides may be of different versions."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import msgspec
from msgspec import Struct

from jetq.model.bounds import check_numbers, is_too_deep

__all__ = [
    "Answer", "Held", "Question", "encode", "own_version", "read_answers", "read_question", "waits_for_itself",
]  # fmt: skip


class Question(Struct, frozen=True, omit_defaults=True):
    """About job `id` and tasks `task` and `tasks`, as far as given. holders: only a worker that has the job is to
    answer."""

    id: str | None = None
    task: str | None = None
    holders: bool = False
    tasks: tuple[str, ...] = ()


class Held(Struct, frozen=True, omit_defaults=True):
    """A job as its worker has it. started: unix seconds, None while it waits for its turn; waits: for what."""

    attempt: int = 1
    started: float | None = None
    cancelled: bool = False
    waits: str = ""


class Answer(Struct, frozen=True, omit_defaults=True):
    """A worker as it is now. Older versions tell neither `lacks` nor `now`."""

    worker: str
    """The worker's name."""

    host: str
    """The name of its machine."""

    pid: int
    """Its process id."""

    version: str
    """Its version of jetq."""

    since: float
    """When the worker started, in unix seconds."""

    slots: int
    """How many jobs it can run at once."""

    busy: int
    """How many of its slots run a job."""

    queues: tuple[str, ...] = ()
    """The queues it serves."""

    stopping: bool = False
    """Whether the worker takes no more jobs."""

    knows: bool | None = None
    """Whether the worker can run the task that was asked for; None if none was."""

    held: Held | None = None
    """The job that was asked for, if the worker has it."""

    lacks: tuple[str, ...] | None = None
    """Those of the `tasks` asked for that the worker cannot run; None from an older version."""

    now: float | None = None
    """The worker's clock, in unix seconds; None from an older version."""


encode = msgspec.json.Encoder().encode
_question = msgspec.json.Decoder(Question).decode
_answer = msgspec.json.Decoder(Answer).decode


def read_question(data: bytes) -> Question | None:
    """The question, or None if it is none."""
    try:
        return None if is_too_deep(data) else _question(data)
    except (ValueError, RecursionError):  # msgspec.DecodeError and UnicodeError are ValueErrors
        return None


def read_answers(replies: Iterable[bytes]) -> list[Answer]:
    """The answers among `replies`, by the workers' names."""
    answers = []
    for reply in replies:
        try:
            if not is_too_deep(reply):
                answers.append(_checked(_answer(reply)))
        except (ValueError, RecursionError):
            continue  # anyone with the permission may answer there
    return sorted(answers, key=lambda answer: answer.worker)


def _checked(answer: Answer) -> Answer:
    check_numbers(answer, counts=("slots", "busy"), times=("since", "now"))
    if answer.held is not None:
        check_numbers(answer.held, counts=("attempt",), times=("started",))
    return answer


def waits_for_itself(answers: Iterable[Answer], worker: str) -> bool:
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
