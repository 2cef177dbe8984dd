"""The outcomes of an attempt, as a closed union: one `match` settles all of them.

An outcome that comes "at no cost" does not count as an attempt.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from jetq.model.failure import DeadReason, Failure
from jetq.model.job import Meta
from jetq.model.redaction import RedactedRepr
from jetq.model.workflows.failure import Failure as StepFailure

__all__ = [
    "Cancelled",
    "Dead",
    "Expired",
    "InLine",
    "Marked",
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


class Succeeded(RedactedRepr, Struct, frozen=True):
    """The attempt returned.

    value: the encoded result; None if no result is kept. result_ttl: seconds for which the result is kept. sealed:
    whether `value` is sealed.
    """

    value: bytes | None = None
    result_ttl: float = 0.0
    sealed: bool = False


class Retrying(RedactedRepr, Struct, frozen=True):
    """The attempt failed, and the next one follows after `after` seconds.

    body: new arguments, if the task asked for them; else None.
    """

    after: float
    failure: Failure
    body: bytes | None = None


class Snoozed(RedactedRepr, Struct, frozen=True):
    """The job is put off for `after` seconds, at no cost. meta, body: take the place of the job's own, if they are
    given."""

    after: float
    meta: Meta | None = None
    body: bytes | None = None


class Needs(Struct, frozen=True, omit_defaults=True):
    """What the code of a worker must have to run a job.

    task: the task of this name. v: the wire version that the code must read. arguments: the task's parameters of these
    names.
    """

    task: str
    v: int = 1
    arguments: tuple[str, ...] = ()


class PutOff(Struct, frozen=True):
    """This worker's code cannot run the job. The job goes back unchanged, for a worker whose code can run it.

    after: seconds after which the broker hands the job out again by itself. since: from when on no worker was known
    whose code can run the job, in unix seconds. looks: how often the job was put off in this way before.
    """

    after: float
    needs: Needs
    since: float
    looks: int = 0


class InLine(Struct, frozen=True):
    """The job waits in the line of its limit, at no cost.

    A worker calls the job up from the line, or the job comes back by itself after `after` seconds. line: names the
    line.
    """

    after: float
    line: str


class Dead(RedactedRepr, Struct, frozen=True):
    """The job ends here, as a dead letter. body: the arguments of its next attempt, if they would differ; else None."""

    reason: DeadReason
    failure: Failure
    body: bytes | None = None


class Cancelled(Struct, frozen=True):
    """The job ends on request. A result record stays for callers that wait, and no job to run."""


class Expired(Struct, frozen=True):
    """The job came too late to be run. A result record stays for callers that wait."""


class Released(RedactedRepr, Struct, frozen=True):
    """The job is given back unfinished, at no cost, and another worker may get it at once.

    body: new arguments, if the task asked for them when it was ended; else None.
    """

    body: bytes | None = None


class Superseded(Struct, frozen=True):
    """The delivery repeats a delivery that is settled. The worker removes the message, and does nothing more."""


class Marked(Struct, frozen=True):
    """The member of a workflow has left its mark before, or leaves it without a run: only what the mark sets off is to
    be done.

    mark: the mark that stands. failure: then none stands, and this is to be the mark: it takes the place of a value
    that the member needs.
    """

    mark: Literal["ok", "bad"]
    failure: StepFailure | None = None


Outcome = Succeeded | Retrying | Snoozed | PutOff | InLine | Dead | Cancelled | Expired | Released | Superseded | Marked

_LONGEST_MESSAGE = 2_000
"""The most characters of a message. A message may quote stored text of any length."""


def dead(reason: DeadReason, type: str, message: str) -> Dead:
    """Return the outcome of a job that is dead for a cause other than an exception of the task.

    type: the name under which the cause is stored, like the name of an exception's class. message: its first 2,000
    characters are kept.
    """
    return Dead(reason=reason, failure=Failure(type=type, message=message[:_LONGEST_MESSAGE]))


def stray(address: str) -> Dead:
    """Return the outcome for a message that is no job, stored under the subject `address`."""
    return dead("undecodable", "jetq.BadSubject", f"{address!r} is not the subject of a job")
