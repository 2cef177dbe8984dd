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
    """What a stored job has beyond its name and arguments. A field is stored only when it is not the default."""

    attempt: int = 1
    """The number of the run that this message is for, from 1."""

    enqueued: float | None = None
    """When `.delay` was called, in unix seconds; None if the broker's own time stamp of the message says it."""

    max_attempts: int | None = None
    """The caller's override of the task's `max_attempts`; None for the task's own."""

    timeout: float | UnsetType | None = UNSET
    """The caller's override of the task's `timeout`, in seconds; None for no bound, UNSET for the task's own."""

    result_ttl: float | UnsetType | None = UNSET
    """The caller's override of the task's `result_ttl`, in seconds; None keeps none, UNSET for the task's own."""

    errors: tuple[AttemptError, ...] = ()
    """How earlier attempts ended, oldest first."""

    errors_dropped: int = 0
    """How many older errors were cut to keep the job small."""

    snoozes: int = 0
    """How often the job was put off."""

    replays: int = 0
    """How often the job was brought back from the dead letters."""

    edits: int = 0
    """How many of those replays had other arguments."""

    unknown_since: float | None = None
    """When a worker first saw that it cannot run the job, in unix seconds, as versions before `Jetq-Off` tell it."""

    expires: float | None = None
    """Unix seconds after which waiting for a run makes no sense any more; None for never."""

    crashes: int = 0
    """How many attempts ended with the death of their process."""

    schedule: str | None = None
    """The name of the recurring schedule whose tick the job is; None for other jobs."""

    nominal: float | None = None
    """The time of that tick, in unix seconds; None for other jobs."""

    in_line: float | None = None
    """Since when the job has waited in the line of its limit, in unix seconds; None if it does not wait there."""

    unique: Literal["running"] | None = None
    """Until when the job's key is taken: `running` until it is started, None until it is done."""


DEFAULT_META = Meta()


class JobRecord(Discreet, Struct, frozen=True):
    """One call, as it is given to the broker to be stored."""

    id: str
    """The job's id."""

    task: str
    """The name of its task."""

    queue: str
    """The queue it is stored in."""

    body: bytes
    """The arguments as a JSON object by parameter name."""

    key: str = NO_KEY
    """The unique key as a token of a subject; `NO_KEY` for none."""

    meta: Meta = DEFAULT_META
    """What the job has beyond its name and arguments."""

    level: Level = "normal"
    """The priority, in a queue that has levels."""

    as_is: Mapping[str, str] | None = None
    """Headers that are stored in the place of `meta`, for a job that goes back as it came; the broker leaves out its
    own. None for all other jobs."""

    fresh: bool = False
    """Whether the id was made for this enqueue, so that nothing else can have it, before or after."""


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
    """One job as the broker handed it out, undecoded."""

    queue: str
    """The queue it came from."""

    task: str
    """The task's name, from the job's address; its dots are restored."""

    key: str
    """The unique key, as the token of the job's address."""

    id: str
    """The job's id, from its address."""

    body: bytes
    """The arguments as stored."""

    headers: Mapping[str, str]
    """The headers as stored, `Jetq` among them if the job has more than the default `Meta`; empty for most jobs."""

    sequence: int
    """The job's place in the queue; never used twice while the queue exists."""

    count: int
    """How often the broker remembers having handed the job out, from 1."""

    stored_at: float
    """The broker's time stamp, in unix seconds."""

    since: float
    """From when the lease surely runs, by `jetq.runtime.clock`: the hand-out, a confirmed renewal, or earlier."""

    token: str
    """Proof of this hand-out, opaque above the broker; `finish` and `extend` name it."""

    address: str
    """The subject that the job was stored on."""

    renew_until: float = math.inf
    """The `time.monotonic()` after which the lease is not renewed any more; infinite unless it is set."""

    schedule: str = ""
    """The name of the recurring schedule whose tick this is; empty for a job."""

    next_at: float | None = None
    """When that schedule ticks next, in unix seconds; None for a job."""

    level: Level = "normal"
    """The job's priority."""

    handed_out_by: str = ""
    """Who handed the job out, see `Terms.by`, as far as that was known; empty if it was not."""

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
