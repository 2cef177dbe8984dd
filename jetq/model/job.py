"""Jobs: as they are stored, found and handed out.

Times are unix seconds (float), durations seconds. What is encoded carries its wire version `v`; absent means 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from jetq.model.extended import Versioned
from jetq.model.failure import AttemptError
from jetq.model.names import NO_KEY
from jetq.model.redaction import Discreet

__all__ = [
    "DEFAULT_META",
    "LEVELS",
    "Debounce",
    "Delivery",
    "Disposition",
    "Found",
    "JobRecord",
    "Level",
    "Meta",
    "State",
    "Stored",
    "Terms",
    "in_place_of",
]

State = Literal["scheduled", "queued", "running", "succeeded", "dead", "cancelled", "expired"]

Level = Literal["high", "normal", "low"]
"""The priority of a job, in a queue that has levels."""

LEVELS: tuple[Level, ...] = ("high", "normal", "low")

Disposition = Literal["new", "existing", "replaced"]
"""What an enqueue did: stored the job, found one of its id or unique key standing, or put itself in that one's place
while it was not due yet."""


class Meta(Versioned, frozen=True, omit_defaults=True):
    """What a stored job has beyond its name and arguments, each field only when it is not the default.

    attempt: the number of the run this message stands for, from 1.
    enqueued: when `.delay` was called, if the broker's own time stamp of the message is not that.
    max_attempts, timeout, result_ttl: the caller's overrides of the task's options.
    errors: how earlier attempts ended, oldest first; `errors_dropped` more were cut to keep the job small.
    snoozes, replays: how often the job was put off, and brought back from the dead letters; edits: how often of those
    with other arguments.
    unknown_since: when a worker first saw that it cannot run it, as versions before `Jetq-Off` tell it.
    expires: when waiting for a run makes no sense any more.
    in_line: since when it has waited in the line of its limit.
    unique: until when its key is taken, if not until it is done.
    crashes: how many attempts ended with the death of their process.
    schedule, nominal: of which recurring schedule it is a tick, and for which time.
    """

    attempt: int = 1
    enqueued: float | None = None
    max_attempts: int | None = None
    timeout: float | UnsetType | None = UNSET
    result_ttl: float | UnsetType | None = UNSET
    errors: tuple[AttemptError, ...] = ()
    errors_dropped: int = 0
    snoozes: int = 0
    replays: int = 0
    edits: int = 0
    unknown_since: float | None = None
    expires: float | None = None
    crashes: int = 0
    schedule: str | None = None
    nominal: float | None = None
    in_line: float | None = None
    unique: Literal["running"] | None = None


DEFAULT_META = Meta()


class JobRecord(Discreet, Struct, frozen=True):
    """One stored call. `body` is the arguments as a JSON object by parameter name. as_is: headers that are stored in
    the place of `meta`, for a job that goes back as it came; the broker leaves out its own.

    fresh: its id was made for this enqueue, so that nothing else can have it, before or after.
    """

    id: str
    task: str
    queue: str
    body: bytes
    key: str = NO_KEY
    meta: Meta = DEFAULT_META
    level: Level = "normal"
    as_is: Mapping[str, str] | None = None
    fresh: bool = False


class Stored(Struct, frozen=True):
    """The broker's answer to storing a job: its sequence in the queue, the id of the job that stands now, and how."""

    sequence: int
    id: str
    disposition: Disposition = "new"


class Debounce(Struct, frozen=True):
    """Take the place of a job of the same key while that is not due yet, at most until it is `max_wait` seconds old."""

    max_wait: float | None = None


def in_place_of(standing: Meta, new: Meta, *, first: float, earlier: float) -> Meta:
    """The meta of a job that takes another's place: its own wishes, and what has happened to the other so far.

    first: when that one was enqueued. earlier: how many seconds before the asked time it is due.
    """
    return Meta(
        attempt=standing.attempt,
        enqueued=first,
        max_attempts=new.max_attempts,
        timeout=new.timeout,
        result_ttl=new.result_ttl,
        errors=standing.errors,
        errors_dropped=standing.errors_dropped,
        snoozes=standing.snoozes,
        replays=standing.replays,
        edits=standing.edits,
        crashes=standing.crashes,
        expires=None if new.expires is None else new.expires - earlier,
        unique=new.unique,
        others=tuple({**dict(standing.others), **dict(new.others)}.items()),
    )


class Delivery(Discreet, Struct, gc=False):
    """One job as the broker handed it out, undecoded.

    task, key, id: the tokens of its address, dots restored in the task's name.
    headers: as stored, `Jetq` among them if the job has more than the default `Meta`; empty for most.
    sequence: its place in the queue; never used twice while the queue stands.
    count: how often the broker remembers having handed it out, from 1.
    stored_at: the broker's time stamp, unix seconds.
    since: from when the lease surely runs, by `jetq.runtime.clock`: the hand-out or the last confirmed renewal, or
    earlier.
    level: its priority.
    renew_until: `time.monotonic()` after which the lease is not renewed any more.
    schedule: of which recurring schedule it is a tick; empty for a job. next_at: when that ticks next, unix seconds.
    token: proof of this hand-out, opaque above the broker; what `finish` and `extend` name.
    handed_out_by: see `Terms.by`, as far as was known; empty if it was not.
    """

    queue: str
    task: str
    key: str
    id: str
    body: bytes
    headers: Mapping[str, str]
    sequence: int
    count: int
    stored_at: float
    since: float
    token: str
    address: str
    renew_until: float = math.inf
    schedule: str = ""
    next_at: float | None = None
    level: Level = "normal"
    handed_out_by: str = ""

    def same_job(self, other: Delivery) -> bool:
        """Whether the two are of one job: another queue may have one of the same id."""
        return self.id == other.id and self.queue == other.queue


class Terms(Struct, frozen=True):
    """On what terms a queue or level is handed out at the moment.

    lease: seconds a delivery stays with its holder without `extend`; a change holds at once, for what is held too.
    by: who hands out and remembers who holds what. If it is another than it was, nobody holds anything any more.
    """

    lease: float
    by: str


class Found(Struct, frozen=True):
    """A job as it stands in its queue. `due` is set while it is scheduled; `in_flight`: a worker may hold it."""

    delivery: Delivery
    state: Literal["scheduled", "queued"]
    due: float | None = None
    in_flight: bool = False
