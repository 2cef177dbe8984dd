"""Dead jobs: what is known of one, beside its original bytes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from jetq.model.extended import Versioned
from jetq.model.failure import AttemptError, DeadReason, Failure
from jetq.model.job import Level
from jetq.model.redaction import Discreet

__all__ = ["DeadEntry", "DeadLetter", "is_same_letter"]


class DeadLetter(Discreet, Versioned, frozen=True, omit_defaults=True):
    """All that is known of a dead job besides its bytes, which are kept beside it unchanged.

    address, headers, sequence: where and how it was stored; `count`: how often it had been handed out.
    errors: its attempts' errors, oldest first, without the `errors_dropped` that were cut.
    """

    id: str
    task: str
    queue: str
    key: str
    reason: DeadReason
    failure: Failure
    attempt: int
    at: float
    enqueued: float
    address: str
    sequence: int
    count: int = 1
    worker: str = ""
    errors: tuple[AttemptError, ...] = ()
    errors_dropped: int = 0
    snoozes: int = 0
    replays: int = 0
    edits: int = 0
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    level: Level = "normal"


class DeadEntry(Discreet, Struct, frozen=True):
    """One entry of a dead-letter queue: the letter, the original bytes, and its place there."""

    letter: DeadLetter
    body: bytes
    sequence: int


def is_same_letter(one: DeadLetter, other: DeadLetter) -> bool:
    """Whether both tell of the same death: of one job, message and time."""
    return (one.id, one.sequence, one.at) == (other.id, other.sequence, other.at)
