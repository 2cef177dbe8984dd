"""Every exception jetq raises, and the three that task code raises to steer its own job.

JetqError
|-- DefinitionError          a task, queue, option or name that cannot work, found where it is written
|-- SettingsError            a setting that is unknown or has an impossible value
|-- ArgumentError            a call that does not fit its task's signature (also a TypeError)
|-- BadPayload               a payload that cannot be opened, or sealed
|-- PluginError              a plugin distribution that cannot be used
|-- BrokerError              the broker refused or could not be used
|   |-- BrokerUnavailable    no usable connection within the deadline
|   |-- TopologyError        what JetStream has is not what jetq needs
|   `-- EnqueueError         a job was not (surely) stored
|       |-- Rejected         surely not stored
|       |   |-- PayloadTooLarge
|       |   |-- Denied       the NATS user lacks a permission (also a BrokerUnavailable)
|       |   `-- NotSent      no connection in time, so nothing was sent (also a BrokerUnavailable)
|       `-- NotStored        fate unknown: a repeat with the same id is safe
|-- ResultError              no result can be handed over
|   |-- ResultTimeout        not finished yet
|   |-- ResultExpired        finished, and the result is gone
|   |-- NoResult             the task keeps no results
|   |-- JobExpired           the job was not started in time
|   |-- JobNotFound          no job of that id
|   `-- TaskFailed           the job is dead, and its exception has no class here
|-- WorkflowError            calls that cannot be put together, or a value used before it exists
|-- NewerVersion             what is stored was written by a newer jetq
|-- ScheduleNotFound         no recurring schedule of that name
|-- JobTimeout               a job ran longer than its timeout (also a TimeoutError)
|-- JobInterrupted           the worker ends before the job did
`-- JobCancelled             the job was cancelled while it ran, or before
Retry                        raised inside a task: run the job again
Snooze                       raised inside a task: run the job later, at no cost
`-- RateLimited              the same, for all jobs of the task or key
Reject                       raised inside a task: the job can never succeed
Interruption                 a sync task is to end now (a BaseException, raised inside it)
JetqWarning                  what works should be written otherwise (a UserWarning)
RemoteTraceback              the cause of an exception that crossed from a worker
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from jetq.units import seconds

__all__ = [
    "ArgumentError",
    "BadPayload",
    "BrokerError",
    "BrokerUnavailable",
    "DefinitionError",
    "Denied",
    "EnqueueError",
    "Interruption",
    "JetqError",
    "JetqWarning",
    "JobCancelled",
    "JobExpired",
    "JobInterrupted",
    "JobNotFound",
    "JobTimeout",
    "NewerVersion",
    "NoResult",
    "NotSent",
    "NotStored",
    "PayloadTooLarge",
    "PluginError",
    "RateLimited",
    "Reject",
    "Rejected",
    "RemoteTraceback",
    "ResultError",
    "ResultExpired",
    "ResultTimeout",
    "Retry",
    "ScheduleNotFound",
    "SettingsError",
    "Snooze",
    "TaskFailed",
    "TopologyError",
    "WorkflowError",
]


class JetqError(Exception):
    """Base of all jetq errors: one sentence of what happened, and optionally a hint of what to do now."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class JetqWarning(UserWarning):
    """Something that works but should be written otherwise. A category of its own, so that it can be filtered."""


class DefinitionError(JetqError):
    """A task, queue, option or name that cannot work. Raised where it is written, before any I/O."""


class SettingsError(JetqError):
    """A setting that is unknown or has an impossible value."""


class ArgumentError(JetqError, TypeError):
    """The arguments of a call do not fit the task's signature; nothing was sent."""


class BadPayload(JetqError):
    """Arguments or a result that were not sealed by the app's keys for this task or job, or that cannot be sealed; see
    `Jetq(payloads=...)`."""


class WorkflowError(JetqError):
    """Calls that cannot be put together as a workflow, or the value of a step that is used before it exists."""


class PluginError(JetqError):
    """A plugin distribution that fails to import, or whose tasks collide with others."""


class BrokerError(JetqError):
    """The broker refused a request or could not be used."""


class BrokerUnavailable(BrokerError):
    """No usable connection to the broker within the deadline."""


class TopologyError(BrokerError):
    """A stream or consumer is not jetq's own, or its settings differ from what jetq needs."""


class EnqueueError(BrokerError):
    """A job could not be stored, or nobody knows whether it was. `job_ids` names the jobs concerned."""

    def __init__(self, message: str, *, hint: str | None = None, job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.job_ids = job_ids


class Rejected(EnqueueError):
    """The job is surely not stored, and will not be by anything done so far: the broker refused it, or, as `NotSent`,
    was not reached."""


class PayloadTooLarge(Rejected):
    """The job's arguments exceed what one message may carry; nothing is stored. That is `max_payload` of the server
    less 32 KiB, for the next attempt and the dead letter, and 32 MiB at most."""


class Denied(BrokerUnavailable, Rejected):
    """The NATS user has no permission to publish to `subject`: what was to be done there surely was not. Other verbs
    raise it too, because each asks the server by a subject."""

    def __init__(
        self, subject: str, *, job_ids: tuple[str, ...] = (), message: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(
            message or f"the NATS user has no permission to publish to {subject}",
            hint=hint or "`jetq setup acl` prints the permissions that jetq needs",
        )
        self.job_ids = job_ids
        self.subject = subject


class NotSent(Rejected, BrokerUnavailable):
    """There was no connection in time, so nothing was sent: the job is surely not stored, and will not be later. Of a
    repeat with an `id` it says that of the repeat."""


class NotStored(EnqueueError):
    """The job was sent and no answer came in time: the job may or may not be stored. `job_ids` has its id, and the
    hint says how to repeat the call safely, with the same `id`."""


class ResultError(JetqError):
    """A job's result cannot be handed over."""


class ResultTimeout(ResultError, TimeoutError):
    """The job did not finish within the given time. It goes on regardless."""


class ResultExpired(ResultError):
    """The job is finished and its result was removed when its `result_ttl` had passed, or the job was purged."""


class NoResult(ResultError):
    """The task stores no results, so there is nothing to wait for."""


class JobExpired(ResultError):
    """The job was not started before it expired, so it never ran."""


class JobNotFound(ResultError):
    """No job of that id is stored, and there is neither a result nor a dead letter of it."""


class TaskFailed(ResultError):
    """The job is dead. Takes the place of an exception whose class is not imported at the caller.

    type: the exception's `module.qualname`.
    remote_traceback: the text of its traceback at the worker.
    """

    def __init__(self, message: str, *, type: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.type = type
        self.remote_traceback = remote_traceback


class NewerVersion(JetqError):
    """What is stored was written in a newer version of the wire format: to change it here would drop what it says."""


class ScheduleNotFound(JetqError):
    """No recurring schedule of that name is stored."""


class JobTimeout(JetqError, TimeoutError):
    """A job ran longer than its timeout. An async task is cancelled then; in a sync task `Interruption` is raised."""

    def __init__(self, message: str = "the job ran longer than its timeout", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)


class JobInterrupted(JetqError):
    """The worker ends before the job did. `Interruption` becomes this at a shutdown; the job runs again elsewhere."""

    def __init__(self, message: str = "the worker is shutting down", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)


class JobCancelled(JetqError):
    """The job was cancelled. Raised where the result is waited for; in a sync task that runs, `Interruption` is."""

    def __init__(self, message: str = "the job was cancelled", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)


class Interruption(BaseException):
    """A sync task is to end now: raised inside its thread, between two steps of its Python code.

    A call that waits outside Python (`time.sleep`, a socket without a timeout) ends first. `Interruption` is no
    `Exception`, so that `except Exception` and `except OSError` of other code let it pass. A task may catch it to clean
    up, and has 10 s for that, in the `except` or `finally` itself: where the task goes on after those, `Interruption`
    is raised again, each second.

    error: what it becomes when it leaves the task: `JobTimeout`, `JobInterrupted` or `JobCancelled`.
    """

    error: ClassVar[type[JobTimeout] | type[JobInterrupted] | type[JobCancelled]] = JobInterrupted


class RemoteTraceback(Exception):
    """The `__cause__` of an exception that crossed from a worker: its text is the worker's traceback."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0]) if self.args else ""


class _Steering(Exception):
    """What a task raises to steer its own job. It crosses a pickle also inside of a group, whatever its constructor
    takes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _without_constructor, (type(self), self.args), vars(self)


def _without_constructor(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *args)


_NO_REASON = ("retry requested",)


class Retry(_Steering):
    """Raise inside a task: this attempt failed, run the job again.

    Counts as an attempt: the last one allowed ends in the dead letters, with the arguments of the attempt to come.
    Raised by a job that its worker cancels as it ends, it gives the job back with those arguments, at no attempt.

    after: seconds or timedelta until the next attempt; None takes the task's own wait.
    arguments: parameters of the next attempt that differ, by name; checked against the signature.
    reason: why; without one, the exception that it is raised from, or during the handling of which, is the reason.
    """

    def __init__(
        self,
        after: float | timedelta | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(*_NO_REASON if reason is None else (reason,))
        self.after = None if after is None else seconds(after, "after")
        if arguments is not None and not isinstance(arguments, Mapping):
            raise TypeError(f"arguments: expected a dict by parameter name, got {type(arguments).__name__}")
        self.arguments = dict(arguments) if arguments else None

    def __str__(self) -> str:
        cause = self.__cause__ if self.__suppress_context__ else self.__context__
        if cause is None or self.args != _NO_REASON:
            return super().__str__()
        return f"{super().__str__()}: {type(cause).__name__}: {cause}"


class Snooze(_Steering):
    """Raise inside a task: not now, run the job again in `after` seconds (or a timedelta). Burns no attempt."""

    def __init__(self, after: float | timedelta) -> None:
        super().__init__("snoozed")
        self.after = seconds(after, "after")


class RateLimited(Snooze):
    """Raise inside a task: the service that it uses asks for a pause, e.g. by HTTP 429. A kind of `Snooze` that holds
    back the whole task or key.

    No job of the task is started anywhere for `retry_after` seconds (or a timedelta), of its key only if the task has
    `limit_per`; then this one runs again. Burns no attempt.
    """

    def __init__(self, retry_after: float | timedelta) -> None:
        super().__init__(retry_after)
        self.args = ("rate limited",)


class Reject(_Steering):
    """Raise inside a task: the job can never succeed. It goes to the dead letters at once, with `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
