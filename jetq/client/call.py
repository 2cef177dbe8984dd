"""Works and calls: what there is before anything is stored.

A call is a task with arguments; the request to store its job is made of the call alone. Works are calls put together.
What the methods of a work do lies in `jetq.client.workflows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from msgspec import UNSET, Struct
from msgspec.structs import replace

from jetq.client.request import Request
from jetq.errors import ArgumentError
from jetq.migration_hints import answering
from jetq.model.definitions.keywords import Seconds
from jetq.model.definitions.options import CallSettings, TaskOptions, effective_options
from jetq.model.job import Debounce, JobRecord, Meta
from jetq.model.names import NO_KEY, check_keyless_id, key_token, keyed_id, new_job_id
from jetq.model.redaction import RedactedRepr

if TYPE_CHECKING:
    from jetq.client.workflows.workflow import Workflow
    from jetq.encoding.sealing import PayloadCodec

__all__ = ["Call", "Start", "Work", "batches", "check_calls"]

R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
D = TypeVar("D")

_BATCH = 1000


class Start(TypedDict, total=False):
    """How a workflow starts."""

    id: str
    """The workflow's id; without, one is made."""

    key: str
    """While a workflow of this key is open, it takes the place of a new one."""

    expires: Seconds
    """Seconds after which no step begins any more."""

    delay: Seconds
    """Seconds after which the first steps begin."""

    at: datetime
    """When the first steps begin."""


class _Takes(Protocol[T_contra, S_co]):
    """A task that can be called with one value: its further parameters have defaults."""

    def bind(self, value: T_contra, /) -> Work[S_co]: ...


class Work(Generic[R_co]):
    """Calls put together that give an `R_co`. Nothing of it is stored, and it can be used again.

    A work never changes: each method returns another one. A work that is used at several places of a workflow is one
    step of it.
    """

    __slots__ = ()

    @property
    def out(self) -> R_co:
        """The value of this work, as an argument of another call: alone, or in a list, tuple or dict.

        It takes the place of a value that does not exist yet. It raises WorkflowError wherever it is used as one.
        """
        return cast(R_co, _composing().out(self))

    @overload
    def __or__(self, then: Work[S], /) -> Work[S]: ...
    @overload
    def __or__(self, then: _Takes[R_co, S], /) -> Work[S]: ...
    def __or__(self, then: Any, /) -> Any:
        """Return the work that goes on with `then`: a task gets the value of this work, a work only begins after it.

        Raises WorkflowError if `then` is neither, ArgumentError if the task cannot be called with one value.
        """
        return _composing().followed_by(self, then)

    def after(self, *others: Work[Any]) -> Work[R_co]:
        """Return the same work, which begins after `others` are done. Raises WorkflowError for what is no work."""
        return cast(Work[R_co], _composing().after(self, others))

    def named(self, step: str, /) -> Work[R_co]:
        """Return the same work, whose last step is called `step`: 1 to 36 letters, digits, `-` or `_`. Without a name a
        step is called like its task. Raises WorkflowError."""
        return cast(Work[R_co], _composing().named(self, step))

    def or_else(self, value: D, /) -> Work[R_co | D]:
        """Return the same work, whose value is `value` if it fails, or if a step fails that only this work needs.

        Raises WorkflowError for many works: each of them may have another value.
        """
        return cast("Work[R_co | D]", _composing().or_else(self, value))

    def on_failure(self, call: Call[Any], /) -> Work[R_co]:
        """Return the same work; `call` becomes a job when the workflow has failed or expired. Raises WorkflowError."""
        return cast(Work[R_co], _composing().with_callback(self, call, "failure"))

    def finally_(self, call: Call[Any], /) -> Work[R_co]:
        """Return the same work; `call` becomes a job when the workflow has ended, in whatever way. Raises
        WorkflowError."""
        return cast(Work[R_co], _composing().with_callback(self, call, "end"))

    def delay(self, **start: Unpack[Start]) -> Workflow[R_co]:
        """Store this work as a workflow and return its handle, once the workflow is stored; for the keywords see
        `Start`.

        Raises WorkflowError for a work that cannot be a workflow, and what `Task.delay` raises.
        """
        return cast("Workflow[R_co]", _starting().delay(self, start))

    async def adelay(self, **start: Unpack[Start]) -> Workflow[R_co]:
        """Do what `delay` does, from async code."""
        return cast("Workflow[R_co]", await _starting().adelay(self, start))


# Both modules lie above this one, which knows nothing of them. They are loaded by name, and never by a program that
# has no workflows.


def _composing() -> Any:
    """Return the module that puts works together."""
    return import_module("jetq.client.workflows.composing")


def _starting() -> Any:
    """Return the module that stores works."""
    return import_module("jetq.client.workflows.starting")


@answering("Call")
class Call(RedactedRepr, Work[R_co], Struct, frozen=True):
    """A task with bound and checked arguments, not stored yet.

    body: the arguments as JSON. settings: the options given for this call. effective: the options in force, from
    `settings` and the task. decode: makes the result from the stored JSON. app: tells which app the call goes to. key:
    the call's unique key; None without a key.
    """

    task: str
    queue: str
    body: bytes
    settings: CallSettings
    effective: TaskOptions
    decode: Callable[[bytes], Any]
    app: Callable[[], Any]
    key: str | None = None

    @property
    def timed(self) -> bool:
        """Whether this call needs an instant, which is computed from the broker's time."""
        settings = self.settings
        return settings.delay is not None or settings.at is not None or self.effective.expires is not None

    def with_defaults(self, settings: CallSettings) -> Call[R_co]:
        """Return the same call with `settings` where the call has no settings of its own.

        Raises DefinitionError if `settings` name one job.
        """
        chosen = self.settings.or_else(settings)
        return replace(
            self,
            queue=chosen.queue or self.queue,
            settings=chosen,
            effective=effective_options(self.effective, chosen),
            key=self.key if chosen.key is UNSET else chosen.key,
        )

    def request(
        self, now: float, instant: Callable[[float], float] = lambda at: at, payloads: PayloadCodec | None = None
    ) -> Request:
        """Return what to store for this call, and how. `now`: when the call was made, in unix seconds of the broker.

        For `instant` see `CallSettings.due`. payloads: seals the arguments. Raises DefinitionError for an id that ends
        in a key, BadPayload if the arguments cannot be sealed.
        """
        settings = self.settings
        id, key = self._identity()
        due = settings.due(now, instant)
        job = JobRecord(
            id,
            self.task,
            self.queue,
            self.body if payloads is None else self._sealed(payloads),
            key=key,
            meta=self._meta(due, now),
            level=self.effective.priority,
            fresh=settings.id is None,
        )
        if not (settings.replace or settings.throttle):
            return Request(job, due)
        debounce = Debounce(max_wait=settings.max_wait) if settings.replace else None
        return Request(job, due, debounce=debounce, throttle=settings.throttle)

    def _identity(self) -> tuple[str, str]:
        """Return the id of the job, and the token of its key. Raises DefinitionError for an id that ends in a key."""
        given = self.settings.id
        id = given or new_job_id()
        if self.key is None:
            if given is not None:
                check_keyless_id(given)
            return id, NO_KEY
        key = key_token(self.key)
        return keyed_id(id, key), key

    def _meta(self, due: float | None, now: float) -> Meta:
        """Return what the job carries beyond its name and arguments. `due` and `now` are unix seconds of the broker."""
        changes: dict[str, Any] = {}
        if due is not None:  # a schedule that fires is a new message, with a time stamp of its own
            changes["enqueued"] = now
        if self.effective.expires is not None:
            changes["expires"] = (now if due is None else due) + self.effective.expires
        if self.effective.unique == "running" and self.key is not None:
            changes["unique"] = "running"
        meta = self.settings.carrying()
        return replace(meta, **changes) if changes else meta

    def _sealed(self, payloads: PayloadCodec) -> bytes:
        from jetq.encoding.sealing import PayloadContext, sealed  # here, because most apps seal nothing

        return sealed(payloads, self.body, PayloadContext("arguments", self.task, queue=self.queue))


def check_calls(calls: Iterable[Any]) -> None:
    """Raise ArgumentError if an item of `calls` is no call, for example a task or the arguments of a task."""
    for call in calls:
        if not isinstance(call, Call):
            if isinstance(call, Work):
                raise ArgumentError(
                    "a job is made of a call, and this work waits for others",
                    hint="work.delay() stores it as a workflow",
                )
            raise ArgumentError(
                f"a job is made of a call, and {type(call).__name__} is none", hint="a task makes one: add.bind(2, 3)"
            )


def batches(calls: Iterable[Call[Any]]) -> Iterator[list[Call[Any]]]:
    """Yield `calls` in lists of at most 1,000, one list after the other; the calls of a list are stored at once.

    Raises ArgumentError for an item that is no call.
    """
    if not isinstance(calls, Iterable):
        check_calls((calls,))
        raise ArgumentError("delay_many takes several calls, and was given one", hint="delay_many([add.bind(2, 3)])")
    source = iter(calls)
    while batch := list(islice(source, _BATCH)):
        check_calls(batch)
        yield batch
