"""Jobs that stay where they are, because the broker takes no message of their size any more.

This happens when the broker's limit was lowered, or its streams were moved to another server. Such a job is still
delivered and run, but a message for its next attempt or its dead letter would be too large as well. So the job's
message stays and is handed out again later, and a cell beside the message stores what the headers of a new message
would say.
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
"""The first word of the cells' names."""

FIRST_PAUSE, LAST_PAUSE = 30.0, 900.0
"""Seconds until the second try to store a dead letter that found no room, and the most seconds between two tries."""

_LONGEST_TRACEBACK = 8_000
"""The most characters of a traceback in a cell. The cell must find room where the job finds none."""


class Kept(Struct, frozen=True, omit_defaults=True):
    """The value of the cell beside the message of a job that stays where it is. With a `reason` the job is dead."""

    sequence: int
    """The sequence of the job's message."""

    meta: Meta
    """The meta of the job's next attempt."""

    due: float
    """From when on the next attempt may run, in unix seconds."""

    tries: int = 0
    """How often the dead letter found no room."""

    reason: DeadReason | None = None
    """Why the job is dead; None while the job is not dead."""

    failure: Failure | None = None
    """The error of the job's last attempt; None while the job is not dead."""

    @property
    def dead(self) -> Dead | None:
        """The outcome of the dead job; None while the job is not dead."""
        if self.reason is None or self.failure is None:
            return None
        return Dead(reason=self.reason, failure=self.failure)

    def next_meta(self, own: Meta) -> Meta:
        """Return the meta of the job's next attempt. own: what the header of the job's message says.

        A worker that cannot read that header stores only since when the job waits for a newer one. The header says the
        rest to a worker that can read it, as the job's place in a workflow.
        """
        if self.meta == Meta(unknown_since=self.meta.unknown_since):
            return replace(own, unknown_since=self.meta.unknown_since)
        return self.meta


class Staying(Struct, frozen=True):
    """The job stays where it is for `after` seconds. kept: the cell's value; None if the job's own headers say all."""

    after: float
    kept: Kept | None = None


def pause_after(tries: int) -> float:
    """Return the seconds until the next try to store a dead letter that found no room.

    tries: how often the dead letter found no room.
    """
    return min(FIRST_PAUSE * 2.0 ** min(tries, 10), LAST_PAUSE)


def kept_name(delivery: Delivery) -> str:
    """Return the name of the cell beside the message of a delivery's job."""
    return f"{KEPT}.{delivery.queue}.{delivery.id}"


def write_kept(kept: Kept) -> bytes:
    """Return the encoded value of a cell."""
    if kept.failure is not None:
        traceback = kept.failure.traceback[-_LONGEST_TRACEBACK:]
        kept = replace(kept, failure=replace(kept.failure, traceback=traceback))
    return msgspec.json.encode(kept)


def read_kept(value: bytes) -> Kept | None:
    """Return the decoded value of a cell; None if this version of jetq cannot read the value."""
    try:
        return msgspec.json.decode(value, type=Kept)
    except (msgspec.DecodeError, RecursionError):
        return None
