"""Jobs that stay where they are, because the broker takes no message of their size any more.

Its limit was lowered, or its streams were moved to another server. What is stored is delivered and run all the same,
but the next attempt and the dead letter are messages of that size too. So the job's message stays and is handed out
again later, and what the headers of a new one would say stands in a cell beside it.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq.model.failure import DeadReason, Failure
from jetq.model.job import Delivery, Meta
from jetq.model.outcome import Dead

__all__ = ["KEPT", "Kept", "Staying", "kept_name", "pause_after", "read_kept", "write_kept"]

KEPT = "kept"
"""What the names of the cells begin with."""

_FIRST_PAUSE = 30.0
_LAST_PAUSE = 900.0
_LONGEST_TRACEBACK = 8_000
"""Characters. A cell must find room where the job does not."""


class Kept(Struct, frozen=True, omit_defaults=True):
    """What is stored beside the message of a job that stays where it is. With a `reason` the job is dead."""

    sequence: int
    """The sequence of the job's message."""

    meta: Meta
    """The meta of the job's next attempt."""

    due: float
    """From when on that attempt may run, in unix seconds."""

    tries: int = 0
    """How often the dead letter found no room."""

    reason: DeadReason | None = None
    """Why the job is dead; None while it is not."""

    failure: Failure | None = None
    """The error of its last attempt; None while it is not dead."""

    @property
    def dead(self) -> Dead | None:
        """How the job ended, if it did."""
        if self.reason is None or self.failure is None:
            return None
        return Dead(reason=self.reason, failure=self.failure)


class Staying(Struct, frozen=True):
    """The job stays where it is for `after` seconds. kept: None if its own headers say all there is to know."""

    after: float
    kept: Kept | None = None


def pause_after(tries: int) -> float:
    """Seconds until the next try to store a dead letter for which there was no room."""
    return min(_FIRST_PAUSE * 2.0 ** min(tries, 10), _LAST_PAUSE)


def kept_name(delivery: Delivery) -> str:
    """The name of the cell beside a delivery's job."""
    return f"{KEPT}.{delivery.queue}.{delivery.id}"


def write_kept(kept: Kept) -> bytes:
    """The value of a cell."""
    if kept.failure is not None:
        traceback = kept.failure.traceback[-_LONGEST_TRACEBACK:]
        kept = replace(kept, failure=replace(kept.failure, traceback=traceback))
    return msgspec.json.encode(kept)


def read_kept(value: bytes) -> Kept | None:
    """What a cell says; None for what is not jetq's, or a newer one's."""
    try:
        return msgspec.json.decode(value, type=Kept)
    except (msgspec.DecodeError, RecursionError):
        return None
