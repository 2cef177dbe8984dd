"""Jobs as the broker stores, finds and hands them out.

Times are unix seconds (float), and durations are seconds. Encoded values carry their wire version `v`; without `v` the
version is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import force_setattr

from jetq.model.extended import Versioned
from jetq.model.failure import AttemptError
from jetq.model.names import NO_KEY
from jetq.model.redaction import RedactedRepr

__all__ = [
    "DEFAULT_META",
    "LEVELS",
    "Debounce",
    "Delivery",
    "Disposition",
    "EnqueueReceipt",
    "JobRecord",
    "Level",
    "Meta",
    "Place",
    "State",
    "StoredJob",
    "Terms",
    "replacing_meta",
]

State = Literal["scheduled", "queued", "running", "succeeded", "dead", "cancelled", "expired"]

Level = Literal["high", "normal", "low"]
"""The priority of a job, in a queue that has levels."""

LEVELS: tuple[Level, ...] = ("high", "normal", "low")

Disposition = Literal["new", "existing", "replaced"]
"""What an enqueue did. `new`: stored the job. `existing`: found a stored job of the same id or unique key. `replaced`:
took the place of the stored job of the same unique key, which was not due yet."""


class Place(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where in a workflow a job belongs: it is one member of one step of one life.

    On the wire a place is an array in the order of these fields. A longer array is not read, so no writer drops what a
    newer jetq has added: whoever adds a field raises the wire version.
    """

    workflow: str
    """The id of the workflow."""

    home: str
    """The queue whose name is in the subject of the plan."""

    life: str
    """The life of the workflow, as in its plan."""

    step: str
    """The name of the step."""

    member: int
    """The number of the member in its step, from 0."""

    members_of_page: int
    """How many members the page has that the member is in; 0 if this is not known."""

    pages: int
    """How many pages the step has."""

    deadline: float
    """The broker's time, in unix seconds, after which the member does not begin any more."""

    seen: int
    """The newest sequence of the ledger that was known to whoever stored the job."""

    looked: float
    """A time before which nobody has stored a job of the member, in unix seconds, if this is not stored again."""

    again: bool = False
    """Whether the job may be stored a second time, so that a worker looks for the member's mark first."""

    @property
    def job_id(self) -> str:
        """The id of the member's job. The same member has the same id whoever stores the job."""
        return f"{self.life}:{self.step}:{self.member}"


_VERSION_OF_PLACES = 2
"""The wire version of a job that has a place. A jetq that does not know places would run the job as a plain one; jetq
of version 1 puts this one off."""


class Meta(Versioned, frozen=True, omit_defaults=True):
    """What a stored job has beyond its name and arguments. A field is stored only when it is not the default."""

    attempt: int = 1
    """The number of the run that this message is for, from 1."""

    enqueued: float | None = None
    """When `.delay` was called, in unix seconds; None if the broker's own time stamp of the message tells this time."""

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
    """How many of these replays had other arguments."""

    unknown_since: float | None = None
    """When a worker first saw that its code cannot run the job, in unix seconds; None if this is not known. Versions of
    jetq before the header `Jetq-Off` stored that time here."""

    expires: float | None = None
    """Unix seconds after which the job is not started any more; None for never."""

    crashes: int = 0
    """How many attempts ended with the death of their process."""

    schedule: str | None = None
    """The name of the recurring schedule whose tick the job is; None for other jobs."""

    nominal: float | None = None
    """The nominal time of that tick, in unix seconds; None for other jobs."""

    in_line: float | None = None
    """Since when the job has waited in the line of its limit, in unix seconds; None if the job is not in a line."""

    unique: Literal["running"] | None = None
    """Until when the job's key is taken: `running` until the job is started, None until the job is done."""

    flow: Place | None = None
    """The job's place in a workflow; None for a job that is in none.

    Guarantee: tests/unit/properties/test_headers.py: whoever writes the job anew keeps its place.
    """

    def __post_init__(self) -> None:
        # Here, because each way to make, change or read a meta comes by: no writer can forget the version.
        if self.flow is not None and self.v < _VERSION_OF_PLACES:
            force_setattr(self, "v", _VERSION_OF_PLACES)


DEFAULT_META = Meta()


class JobRecord(RedactedRepr, Struct, frozen=True):
    """One job, as jetq gives it to the broker to store."""

    id: str
    """The job's id."""

    task: str
    """The name of its task."""

    queue: str
    """The queue that stores the job."""

    body: bytes
    """The arguments as a JSON object by parameter name."""

    key: str = NO_KEY
    """The unique key as a token of a subject; `NO_KEY` for none."""

    meta: Meta = DEFAULT_META
    """What the job has beyond its name and arguments."""

    level: Level = "normal"
    """The priority, in a queue that has levels."""

    as_is: Mapping[str, str] | None = None
    """Headers that are stored in the place of `meta`, for a job that goes back unchanged. The broker leaves out its own
    headers. None for all other jobs."""

    fresh: bool = False
    """Whether the id was made for this enqueue, so that no other job has the id, before or after."""

    @property
    def again(self) -> bool:
        """Whether an earlier job of this id may be over, which is no reason not to store this one: the worker finds out
        whether there is anything left to do."""
        return self.meta.flow is not None and self.meta.flow.again


class EnqueueReceipt(Struct, frozen=True):
    """The broker's answer to an enqueue.

    sequence: the place of the stored job in the queue. id: the id of the stored job, which may be an earlier one.
    disposition: what the enqueue did.
    """

    sequence: int
    id: str
    disposition: Disposition = "new"


class Debounce(Struct, frozen=True):
    """Says that a job takes the place of a stored job of the same key that is not due yet.

    max_wait: the job stays due within this many seconds of the first enqueue of the key; None for no bound.
    """

    max_wait: float | None = None


def replacing_meta(existing: Meta, new: Meta, *, first: float, earlier: float) -> Meta:
    """Return the meta of a job that is stored instead of another job: its own options, and the history of the other
    job, with that job's place in a workflow.

    existing: the meta of the other job. new: the meta that the job brings. first: when the other job was enqueued, in
    unix seconds. earlier: how many seconds before the time its caller asked for the job is due.
    """
    return Meta(
        attempt=existing.attempt,
        enqueued=first,
        max_attempts=new.max_attempts,
        timeout=new.timeout,
        result_ttl=new.result_ttl,
        errors=existing.errors,
        errors_dropped=existing.errors_dropped,
        snoozes=existing.snoozes,
        replays=existing.replays,
        edits=existing.edits,
        crashes=existing.crashes,
        expires=None if new.expires is None else new.expires - earlier,
        unique=new.unique,
        flow=existing.flow,  # it belongs to the id, which stays
        others=tuple({**dict(existing.others), **dict(new.others)}.items()),
    )


class Delivery(RedactedRepr, Struct, gc=False):
    """One job as the broker handed it out, not decoded yet."""

    queue: str
    """The queue that the job came from."""

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
    """The job's place in the queue. No sequence is used twice while the queue exists."""

    count: int
    """How often the broker has handed the job out, as far as the broker remembers, from 1."""

    stored_at: float
    """The broker's time stamp, in unix seconds."""

    since: float
    """A time of `jetq.runtime.clock` from which the lease surely runs: of the hand-out or of a confirmed renewal, or
    earlier."""

    token: str
    """Proof of this hand-out, which `finish` and `extend` give to the broker. Only the broker reads the token."""

    address: str
    """The subject that the job was stored on."""

    renew_until: float = math.inf
    """The `time.monotonic()` after which the lease is not renewed any more; infinite unless it is set."""

    schedule: str = ""
    """The name of the recurring schedule whose tick this delivery is; empty for a job."""

    next_at: float | None = None
    """When that schedule ticks next, in unix seconds; None for a job."""

    level: Level = "normal"
    """The job's priority."""

    handed_out_by: str = ""
    """What handed the job out, in the form of `Terms.by`; empty if that was not known."""

    def same_job(self, other: Delivery) -> bool:
        """Return whether both deliveries are of one job. Two queues may each have a job of the same id."""
        return self.id == other.id and self.queue == other.queue


class Terms(Struct, frozen=True):
    """The terms on which the broker hands out the jobs of a queue or level at the moment.

    lease: seconds for which a delivery stays with its holder without `extend`. A change applies at once, also to
        deliveries that are held.
    by: names what hands the jobs out and remembers their holders. When `by` changes, no worker holds any job any more.
    """

    lease: float
    by: str


class StoredJob(Struct, frozen=True):
    """A job as it is stored in its queue.

    due: when the job is due, in unix seconds, while the job is scheduled; None otherwise. in_flight: whether a worker
    may hold the job.
    """

    delivery: Delivery
    state: Literal["scheduled", "queued"]
    due: float | None = None
    in_flight: bool = False
