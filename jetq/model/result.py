"""Results: how jobs ended, kept for their callers."""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from jetq.model.failure import Failure
from jetq.model.redaction import RedactedRepr

__all__ = ["NO_VALUE", "ResultRecord"]


NO_VALUE = Raw(b"null")


class ResultRecord(RedactedRepr, Struct, frozen=True, omit_defaults=True, gc=False):
    """How a job ended, kept for its caller."""

    id: str
    """The job's id."""

    state: Literal["succeeded", "dead", "cancelled", "expired"]
    """How the job ended."""

    task: str
    """The name of its task."""

    queue: str
    """The queue that the job was in."""

    attempt: int
    """The number of its last attempt."""

    sequence: int
    """The sequence of the delivery that this result settles."""

    at: float
    """When the job ended, in unix seconds."""

    worker: str = ""
    """The worker that ran the job; empty if no worker did."""

    value: Raw = NO_VALUE
    """What the task returned, as JSON; `null` if there is no value, or if `sealed` has the value."""

    sealed: bytes | None = None
    """The sealed value, in the place of `value`, if payloads are sealed; None otherwise."""

    failure: Failure | None = None
    """The error of a job that did not succeed; None if there is none."""

    v: int = 1
    """The version of the wire format."""
