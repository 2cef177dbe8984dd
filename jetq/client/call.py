"""A call: a task with arguments, before it is a job. The request to store the job is made of the call alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from jetq.client.request import Request
from jetq.errors import ArgumentError
from jetq.migration_hints import answering
from jetq.model.definitions.options import CallSettings, TaskOptions, effective_options
from jetq.model.job import Debounce, JobRecord, Meta
from jetq.model.names import NO_KEY, check_keyless_id, key_token, keyed_id, new_job_id
from jetq.model.redaction import RedactedRepr

if TYPE_CHECKING:
    from jetq.encoding.sealing import PayloadCodec

__all__ = ["Call", "batches", "check_calls"]

R = TypeVar("R")

_BATCH = 1000


@answering("Call")
class Call(RedactedRepr, Struct, Generic[R], frozen=True):
    """A task with bound and checked arguments, not stored yet.

    body: the arguments as JSON. settings: the options given for this call. effective: the options in force, from
    `settings` and the task. decode: makes the result from the stored JSON. key: the call's unique key; None without a
    key.
    """

    task: str
    queue: str
    body: bytes
    settings: CallSettings
    effective: TaskOptions
    decode: Callable[[bytes], Any]
    key: str | None = None

    @property
    def timed(self) -> bool:
        """Whether this call needs an instant, which is computed from the broker's time."""
        settings = self.settings
        return settings.delay is not None or settings.at is not None or self.effective.expires is not None

    def or_else(self, settings: CallSettings) -> Call[R]:
        """Return the same call with `settings` where the call has no settings of its own.

        Raises DefinitionError if `settings` name one job.
        """
        chosen = self.settings.or_else(settings)
        return replace(
            self,
            queue=chosen.queue or self.queue,
            settings=chosen,
            effective=effective_options(self.effective, chosen),
            key=self.key if chosen.key is None else chosen.key,
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
