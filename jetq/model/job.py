"""The values that travel: what is stored, delivered, decided and shown. No I/O and no clock.

Times are unix seconds (float), durations seconds. What is encoded carries its wire version `v`; absent means 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import force_setattr

from jetq.model.extended import Extended, Versioned
from jetq.model.names import NO_KEY
from jetq.model.redaction import Discreet

__all__ = [
    "DEFAULT_META",
    "LEVELS",
    "NO_VALUE",
    "AttemptError",
    "Cancelled",
    "Cell",
    "Dead",
    "DeadEntry",
    "DeadLetter",
    "DeadReason",
    "Debounce",
    "Delivery",
    "Disposition",
    "Drift",
    "Expired",
    "Failure",
    "Found",
    "InLine",
    "JobRecord",
    "Level",
    "Meta",
    "Needs",
    "Outcome",
    "PutOff",
    "QueueInfo",
    "Released",
    "ResultRecord",
    "Retrying",
    "Snoozed",
    "State",
    "Stored",
    "StoredRecord",
    "Succeeded",
    "Superseded",
    "Terms",
    "in_place_of",
    "is_same_letter",
    "stable_type_name",
]

State = Literal["scheduled", "queued", "running", "succeeded", "dead", "cancelled", "expired"]

Level = Literal["high", "normal", "low"]
"""The priority of a job, in a queue that has levels."""

LEVELS: tuple[Level, ...] = ("high", "normal", "low")

Disposition = Literal["new", "existing", "replaced"]
"""What an enqueue did: stored the job, found one of its id or unique key standing, or put itself in that one's place
while it was not due yet."""

DeadReason = Literal["failed", "rejected", "crashed", "timeout", "unknown-task", "undecodable", "bad-arguments"]
"""Why a job is dead: out of attempts or not worth one, `Reject` raised, killed its worker too often, its thread never
ended, no worker knows the task, unreadable bytes, or arguments that do not fit the signature."""


def stable_type_name(name: str) -> str:
    """Return the name under which the exception class `name`, as `module.qualname`, is stored and shown.

    A class of jetq's own is `jetq.X`, in whatever module it lives: what is stored outlives a move of that module. A
    name with its module, as earlier versions stored it, comes out the same way.
    """
    return f"jetq.{name.rpartition('.')[2]}" if name.startswith("jetq.") else name


class AttemptError(Extended, frozen=True, omit_defaults=True):
    """How one attempt ended, short enough to travel with the job. type: as of `Failure`."""

    attempt: int
    type: str
    message: str
    at: float
    worker: str = ""

    def __post_init__(self) -> None:
        _name_type(self)


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


class Cell(Discreet, Struct, frozen=True):
    """A small value that the fleet shares. `version` grows with every write and is never used twice."""

    name: str
    value: bytes
    version: int


class StoredRecord(Discreet, Struct, frozen=True):
    """A small value that an application or plugin keeps beside its jobs. `version` is that of a Cell; at: when it was
    written, in unix seconds of the broker."""

    name: str
    value: bytes
    version: int
    at: float


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


class Failure(Extended, frozen=True, omit_defaults=True):
    """An exception as text.

    type: `module.qualname` of its class, or `jetq.X` (`stable_type_name`).
    args: the constructor's arguments, when JSON can hold them.
    """

    type: str
    message: str
    traceback: str = ""
    args: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        _name_type(self)


def _name_type(value: AttemptError | Failure) -> None:
    """Give the class of `value` its stable name: an earlier version named it by its module."""
    if value.type.startswith("jetq."):
        force_setattr(value, "type", stable_type_name(value.type))


NO_VALUE = Raw(b"null")


class ResultRecord(Discreet, Struct, frozen=True, omit_defaults=True, gc=False):
    """How a job ended, kept for its caller. `sequence` is that of the delivery it settles. `sealed` takes the place of
    `value` where payloads are sealed."""

    id: str
    state: Literal["succeeded", "dead", "cancelled", "expired"]
    task: str
    queue: str
    attempt: int
    sequence: int
    at: float
    worker: str = ""
    value: Raw = NO_VALUE
    sealed: bytes | None = None
    failure: Failure | None = None
    v: int = 1


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


def is_same_letter(one: DeadLetter, other: DeadLetter) -> bool:
    """Whether both tell of the same death: of one job, message and time."""
    return (one.id, one.sequence, one.at) == (other.id, other.sequence, other.at)


class DeadEntry(Discreet, Struct, frozen=True):
    """One entry of a dead-letter queue: the letter, the original bytes, and its place there."""

    letter: DeadLetter
    body: bytes
    sequence: int


class Found(Struct, frozen=True):
    """A job as it stands in its queue. `due` is set while it is scheduled; `in_flight`: a worker may hold it."""

    delivery: Delivery
    state: Literal["scheduled", "queued"]
    due: float | None = None
    in_flight: bool = False


class QueueInfo(Struct, frozen=True):
    """A queue in numbers: jobs ready, handed out, scheduled and dead, and pull requests waiting (idle workers).

    paused_until: unix seconds while the queue is paused, `math.inf` without an end.
    """

    name: str
    ready: int
    running: int
    scheduled: int
    dead: int
    waiting: int
    paused_until: float | None = None


class Drift(Struct, frozen=True):
    """One field of what stands that differs from what jetq needs."""

    thing: str
    field: str
    wanted: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.thing}: {self.field} is {self.found!r}, jetq needs {self.wanted!r}"


class Succeeded(Discreet, Struct, frozen=True):
    """The attempt returned. `value` is its encoded result, or None when no result is kept; `sealed` if it is that."""

    value: bytes | None = None
    result_ttl: float = 0.0
    sealed: bool = False


class Retrying(Discreet, Struct, frozen=True):
    """The attempt failed and another follows `after` seconds. `body`: new arguments, if the task asked for them."""

    after: float
    failure: Failure
    body: bytes | None = None


class Snoozed(Struct, frozen=True):
    """Put off for `after` seconds at no cost. `meta` replaces the job's own when something must be remembered."""

    after: float
    meta: Meta | None = None


class Needs(Struct, frozen=True, omit_defaults=True):
    """What the code of a worker must have to run a job: its task, so many of the wire's versions, and parameters of
    these names."""

    task: str
    v: int = 1
    arguments: tuple[str, ...] = ()


class PutOff(Struct, frozen=True):
    """This worker's code cannot run it: it goes back as it came, for one that can, and comes by itself after `after`
    seconds. since: from when on nobody was known who can; looks: how often it was put off before."""

    after: float
    needs: Needs
    since: float
    looks: int = 0


class InLine(Struct, frozen=True):
    """Put into the line of its limit, at no cost: it is called up from there, or comes back `after` seconds."""

    after: float
    line: str


class Dead(Discreet, Struct, frozen=True):
    """The job ends here, in the dead letters. `body`: the arguments its next attempt would have had, if they differ."""

    reason: DeadReason
    failure: Failure
    body: bytes | None = None


class Cancelled(Struct, frozen=True):
    """Ended on request. It leaves a record for who waits, and nothing to run."""


class Expired(Struct, frozen=True):
    """Came too late to be run. It leaves a record for who waits."""


class Released(Discreet, Struct, frozen=True):
    """Given back unfinished, at no cost: another worker may have it at once. `body`: new arguments, if the task asked
    for them as it was ended."""

    body: bytes | None = None


class Superseded(Struct, frozen=True):
    """A repeat of something settled already: remove it, do nothing more."""


Outcome = Succeeded | Retrying | Snoozed | PutOff | InLine | Dead | Cancelled | Expired | Released | Superseded
