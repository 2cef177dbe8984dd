"""What workers are asked while they run, and what they answer. Not stored: both sides may be of different versions."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

__all__ = ["Answer", "Held", "Question", "encode", "read_answers", "read_question"]


class Question(Struct, frozen=True, omit_defaults=True):
    """About job `id` and task `task`, as far as given. holders: only a worker that has the job is to answer."""

    id: str | None = None
    task: str | None = None
    holders: bool = False


class Held(Struct, frozen=True, omit_defaults=True):
    """A job as its worker has it. started: unix seconds, None while it waits for its turn; waits: for what."""

    attempt: int = 1
    started: float | None = None
    cancelled: bool = False
    waits: str = ""


class Answer(Struct, frozen=True, omit_defaults=True):
    """A worker as it is now.

    busy of its `slots` run jobs. stopping: it takes no more. knows: whether it can run the task that was asked for.
    held: the job that was asked for, if it has it.
    """

    worker: str
    host: str
    pid: int
    version: str
    since: float
    slots: int
    busy: int
    queues: tuple[str, ...] = ()
    stopping: bool = False
    knows: bool | None = None
    held: Held | None = None


encode = msgspec.json.Encoder().encode
_question = msgspec.json.Decoder(Question).decode
_answer = msgspec.json.Decoder(Answer).decode


def read_question(data: bytes) -> Question | None:
    """The question, or None if it is none."""
    try:
        return _question(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_answers(replies: Iterable[bytes]) -> list[Answer]:
    """The answers among `replies`, by the workers' names."""
    answers = []
    for reply in replies:
        try:
            answers.append(_answer(reply))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # anyone with the permission may answer there
    return sorted(answers, key=lambda answer: answer.worker)
