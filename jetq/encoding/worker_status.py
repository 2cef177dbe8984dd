"""Questions to running workers and their answers, as bytes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jetq.encoding.json_text import is_too_deep
from jetq.model.bounds import check_numbers
from jetq.model.worker_status import StatusQuery, WorkerStatus

__all__ = ["encode", "read_answers", "read_query"]

encode = msgspec.json.Encoder().encode
_decode_query = msgspec.json.Decoder(StatusQuery).decode
_decode_answer = msgspec.json.Decoder(WorkerStatus).decode


def read_query(data: bytes) -> StatusQuery | None:
    """Return the query that a message holds; None if the message holds no query."""
    try:
        return None if is_too_deep(data) else _decode_query(data)
    except (ValueError, RecursionError):  # msgspec.DecodeError and UnicodeError are ValueErrors
        return None


def read_answers(replies: Iterable[bytes]) -> list[WorkerStatus]:
    """Return the answers among `replies`, sorted by the workers' names. Replies that are no answers are left out."""
    answers = []
    for reply in replies:
        try:
            if not is_too_deep(reply):
                answers.append(_checked(_decode_answer(reply)))
        except (ValueError, RecursionError):
            continue  # anyone with the permission may reply
    return sorted(answers, key=lambda answer: answer.worker)


def _checked(answer: WorkerStatus) -> WorkerStatus:
    check_numbers(answer, counts=("slots", "busy"), times=("since", "now"))
    if answer.held is not None:
        check_numbers(answer.held, counts=("attempt",), times=("started",))
    return answer
