"""Dead letters: what jetq knows of a dead job, and the job's original bytes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from jetq.model.extended import Versioned
from jetq.model.failure import AttemptError, DeadReason, Failure
from jetq.model.job import Level
from jetq.model.redaction import RedactedRepr

__all__ = ["DeadEntry", "DeadLetter", "is_same_letter"]


class DeadLetter(RedactedRepr, Versioned, frozen=True, omit_defaults=True):
    """All that is known of a dead job except its bytes, which are stored unchanged beside the letter.

    Times are unix seconds.
    """

    id: str
    """The job's id."""

    task: str
    """The name of its task."""

    queue: str
    """The queue the job died in."""

    key: str
    """The unique key, as the token of its address."""

    reason: DeadReason
    """Why the job is dead."""

    failure: Failure
    """The error of its last attempt."""

    attempt: int
    """The number of its last attempt, from 1."""

    at: float
    """When the job died."""

    enqueued: float
    """When the job was enqueued."""

    address: str
    """The subject that the job was stored on."""

    sequence: int
    """The place in the queue where the job was stored."""

    count: int = 1
    """How often the job had been handed out."""

    worker: str = ""
    """The worker that ran the job last; empty if no worker did."""

    errors: tuple[AttemptError, ...] = ()
    """The errors of its attempts, oldest first, without the older errors that were cut."""

    errors_dropped: int = 0
    """How many older errors were cut."""

    snoozes: int = 0
    """How often the job was put off."""

    replays: int = 0
    """How often the job was brought back from the dead letters."""

    edits: int = 0
    """How many of these replays had other arguments."""

    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The headers that the job was stored with."""

    level: Level = "normal"
    """The job's priority."""


class DeadEntry(RedactedRepr, Struct, frozen=True):
    """One entry of a dead-letter queue: the letter, the original bytes of the job, and the entry's sequence there."""

    letter: DeadLetter
    body: bytes
    sequence: int


def is_same_letter(one: DeadLetter, other: DeadLetter) -> bool:
    """Return whether both letters tell of the same death: of the same job, message and time."""
    return (one.id, one.sequence, one.at) == (other.id, other.sequence, other.at)
