"""What an attempt came to: a closed union, which one `match` settles."""

from __future__ import annotations

from msgspec import Struct

from jetq.model.failure import DeadReason, Failure
from jetq.model.job import Meta
from jetq.model.redaction import Discreet

__all__ = [
    "Cancelled",
    "Dead",
    "Expired",
    "InLine",
    "Needs",
    "Outcome",
    "PutOff",
    "Released",
    "Retrying",
    "Snoozed",
    "Succeeded",
    "Superseded",
    "dead",
    "stray",
]


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

_LONGEST_MESSAGE = 2_000
"""Characters of a message. It may quote what somebody has stored, and that may be anything."""


def dead(reason: DeadReason, type: str, message: str) -> Dead:
    """Return the end of a job for a cause that no exception of the task tells. type: the name to be stored for it, as
    that of an exception. Of `message` the first 2,000 characters are kept."""
    return Dead(reason=reason, failure=Failure(type=type, message=message[:_LONGEST_MESSAGE]))


def stray(address: str) -> Dead:
    """Return what becomes of a message that is no job's, of the subject `address`."""
    return dead("undecodable", "jetq.BadSubject", f"{address!r} is not the subject of a job")
