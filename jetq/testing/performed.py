"""What one attempt of one job came to, for a test of a task."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from msgspec import Struct

from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import AttemptError
from jetq.model.redaction import Discreet
from jetq.testing.enqueued import EnqueuedJob

__all__ = ["Performed"]

R = TypeVar("R")


class Performed(Discreet, Struct, Generic[R], frozen=True):
    """How the one attempt of a job ended that `perform` has run.

    outcome: "retrying" and "snoozed" are run again `after` so many seconds. value: what the task returned, as its
    caller would get it; None if it did not. error: how the attempt failed. letter: its dead letter, if the job is dead.
    enqueued: the jobs that it has stored, in their order, none of which has run.
    """

    outcome: Literal["succeeded", "retrying", "snoozed", "dead", "cancelled", "expired"]
    value: R | None = None
    after: float | None = None
    error: AttemptError | None = None
    letter: DeadLetter | None = None
    enqueued: tuple[EnqueuedJob, ...] = ()
