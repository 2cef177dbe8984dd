"""The outcome of one attempt of one job, for a test of a task."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from msgspec import Struct

from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import AttemptError
from jetq.model.redaction import RedactedRepr
from jetq.testing.enqueued import EnqueuedJob

__all__ = ["Performed"]

R = TypeVar("R")


class Performed(RedactedRepr, Struct, Generic[R], frozen=True):
    """How the one attempt ended that `perform` has run.

    outcome: a job that is "retrying" or "snoozed" is run again `after` seconds from now. value: what the task returned,
    as its caller would get it; None if the task did not return. error: how the attempt failed. letter: the dead letter,
    if the job is dead. enqueued: the jobs that the attempt has stored, in their order; none of them has run.
    """

    outcome: Literal["succeeded", "retrying", "snoozed", "dead", "cancelled", "expired"]
    value: R | None = None
    after: float | None = None
    error: AttemptError | None = None
    letter: DeadLetter | None = None
    enqueued: tuple[EnqueuedJob, ...] = ()
