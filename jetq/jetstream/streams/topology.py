"""The streams and consumers that jetq needs in JetStream: made where they are missing, compared where they exist.

Creation is by `action: create` and comparison, because adding a consumer of an existing name silently rewrites it for
every worker (nats-server 2.15: the last writer's `ack_wait` applies at once to jobs already handed out).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from msgspec import Struct

from jetq.broker.numbers import COUNT_TTL, DEDUP_WINDOW
from jetq.errors import BrokerError, Denied, TopologyError
from jetq.jetstream.streams.api import Api, ApiError
from jetq.jetstream.streams.domains import refuse_twofold
from jetq.jetstream.streams.refusals import HINTS, WANTS_BOUND
from jetq.jetstream.streams.subjects import CLOSED, Subjects
from jetq.jetstream.transport.connection import Connection
from jetq.model.deployment_facts import Drift
from jetq.model.job import LEVELS, Level
from jetq.settings import Settings

__all__ = ["DELETED_WITHIN", "OWNER", "QueueTopology", "Seen", "Topology"]

OWNER = "jetq"
_STREAM_EXISTS = 10058
_CONSUMER_EXISTS = frozenset({10148, 10105})
_NANOSECONDS = 1_000_000_000
_NOT_UNIQUE = 10100
_STILL_DELETED = (10012, 10149)
"""The server's error codes for making a consumer while a consumer of that name is being deleted: the store cannot be
made, or the consumer does not exist. This is over within 75 ms (nats-server 2.15.1,
tests/integration/queues/test_removed_queues.py)."""

_PROBED = "domain"
"""The name of a cell that nobody writes."""

DELETED_WITHIN = 1.0
"""Seconds after which the server has removed the directory of a deleted stream. The server goes on removing it after it
has said that there is no such stream. A stream that is made meanwhile under the same name loses its files: a publish to
that stream is answered by nobody until the stream is deleted too (nats-server 2.15.1,
tests/integration/queues/test_removed_queues.py)."""

_LOOK_EVERY = 0.1

_COUNTS_ROOM = 64 * 1024 * 1024
"""The most bytes that the counts are given, if there is a bound at all: about half a million counts of 130 bytes
(nats-server 2.15.1)."""


class QueueTopology(Struct, frozen=True):
    """A queue as it exists.

    `ack_wait` is its real lease in seconds. `created` is when its stream was made. `bounded`: its jobs have a bound in
    bytes. `drift` is what differs from what jetq needs.
    """

    ack_wait: float
    created: str
    bounded: bool
    drift: tuple[Drift, ...]


class Seen(Struct, frozen=True):
    """A stream or consumer that was looked at.

    `info` is the server's description; None if the stream or consumer is missing. `drift` is what differs from what
    jetq needs. `foreign`: a stream of this name exists and is not jetq's.
    """

    info: dict[str, Any] | None
    drift: tuple[Drift, ...] = ()
    foreign: bool = False


class Topology:
    """Makes and compares the streams and consumers of one namespace."""

    def __init__(self, connection: Connection, api: Api, subjects: Subjects, settings: Settings) -> None:
        self._connection = connection
        self._api = api
        self._subjects = subjects
        self._settings = settings

    async def queue(self, queue: str) -> QueueTopology:
        """Make the streams and the consumer of `queue` where they are missing, and return the queue as it exists.

        Raises TopologyError for a stream that is not jetq's, and for a stream of that name in another domain, which
        would store each job a second time.
        """
        await self._refuse_twofold(self._subjects.jobs(queue), self._subjects.first(queue))
        jobs, drift = await self._stream(self._subjects.jobs(queue), self._jobs_config(queue))
        if not jobs["state"]["messages"]:
            # While a stream begins with the message that its consumer hands out next, the server looks for each job
            # through the subjects of all waiting messages (`LoadNextMsgMulti`, 2.15.1). With a million of them, one
            # slot ran 12 jobs of 5 ms a second in place of 170. So a message that no worker gets is stored before all
            # jobs.
            await self._api.place(self._subjects.first(queue))
        _, dead_drift = await self._stream(self._subjects.dead_letters(queue), self._dead_config(queue))
        consumer, consumer_drift = await self._consumer(queue)
        return QueueTopology(
            ack_wait=int(consumer["config"]["ack_wait"]) / _NANOSECONDS,
            created=str(jobs["created"]),
            bounded=int(jobs["config"].get("max_bytes", -1)) > 0,
            drift=(*drift, *dead_drift, *consumer_drift),
        )

    async def levels(self, queue: str) -> Sequence[Drift]:
        """Make the consumers of the levels high and low where they are missing; return their drift."""
        _, high = await self._consumer(queue, "high")
        _, low = await self._consumer(queue, "low")
        return (*high, *low)

    async def has_levels(self, queue: str) -> bool:
        """Return whether the consumers of the levels high and low exist."""
        return (
            await self._api.consumer_info(self._subjects.jobs(queue), self._subjects.consumer(queue, "high"))
            is not None
        )

    async def shared(self) -> Sequence[Drift]:
        """Make the streams of results and fleet state where they are missing; return their drift.

        Raises TopologyError as `queue` does.
        """
        await self._refuse_twofold(self._subjects.state, self._subjects.cell(_PROBED))
        _, results = await self._stream(self._subjects.results, self._results_config())
        _, state = await self._stream(self._subjects.state, self._state_config())
        return (*results, *state)

    async def records(self) -> Sequence[Drift]:
        """Make the stream of records where it is missing; return its drift. Raises TopologyError as `queue` does.

        The stream is not made by `shared`, because most namespaces do without records.
        """
        await self._refuse_twofold(self._subjects.records, self._subjects.record(_PROBED))
        _, drift = await self._stream(self._subjects.records, self.records_stream())
        return drift

    async def ledger(self) -> Sequence[Drift]:
        """Make the two streams of the ledger where they are missing; return their drift.

        The streams are not made by `shared`, because namespaces without workflows do without. Raises TopologyError as
        `queue` does.
        """
        await self._refuse_twofold(self._subjects.flows, self._subjects.entry(f"flow.{_PROBED}"))
        entries, counts = self.ledger_streams()
        _, drift = await self._stream(self._subjects.flows, entries)
        _, counts_drift = await self._stream(self._subjects.counts, counts)
        return (*drift, *counts_drift)

    def streams_of(self, queue: str) -> Sequence[dict[str, Any]]:
        """Return the wanted configurations of the streams that `queue` needs."""
        return (self._jobs_config(queue), self._dead_config(queue))

    def shared_streams(self) -> Sequence[dict[str, Any]]:
        """Return the wanted configurations of the streams that the namespace needs."""
        return (self._results_config(), self._state_config())

    def records_stream(self) -> dict[str, Any]:
        """Return the wanted configuration of the stream of records."""
        return {
            **self._base(self._subjects.records, "records", self._settings.record_max_bytes, lossless=True),
            "subjects": [self._subjects.records_subjects],
            "retention": "limits",
            "max_msgs_per_subject": 1,
        }

    def ledger_streams(self) -> Sequence[dict[str, Any]]:
        """Return the wanted configurations of the streams of the ledger: that of entries, and that of counts."""
        return (self._flows_config(), self._counts_config())

    async def look_at_stream(self, wanted: Mapping[str, Any]) -> Seen:
        """Return what exists of the stream `wanted`. Nothing is made."""
        info = await self._api.stream_info(wanted["name"])
        if info is None or not _is_own(info["config"], wanted):
            return Seen(info, foreign=info is not None)
        return Seen(info, tuple(_compare(f"stream {wanted['name']}", wanted, info["config"])))

    async def look_at_consumer(self, queue: str, level: Level) -> Seen:
        """Return what exists of the consumer of a queue's level. Nothing is made."""
        stream, name = self._subjects.jobs(queue), self._subjects.consumer(queue, level)
        info = await self._api.consumer_info(stream, name)
        if info is None:
            return Seen(info)
        wanted = self._consumer_config(queue, level)
        return Seen(info, tuple(_compare(f"consumer {name} of stream {stream}", wanted, info["config"])))

    async def _refuse_twofold(self, stream: str, subject: str) -> None:
        async def stands() -> bool:
            return await self._api.stream_info(stream) is not None

        await refuse_twofold(self._connection, stream, subject, stands)

    async def _stream(self, name: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[Drift]]:
        info = await self._api.stream_info(name)
        if info is None:
            await self._let_it_be_deleted(name)
            try:
                info = await self._api.request(f"STREAM.CREATE.{name}", config)
            except ApiError as error:
                if error.err_code != _STREAM_EXISTS:  # another process, with other settings, was quicker
                    raise _not_made(f"stream {name}", error) from error
                info = await self._api.request(f"STREAM.INFO.{name}")
        found = info["config"]
        if not _is_own(found, config):
            raise TopologyError(
                f"stream {name} exists and is not jetq's",
                hint="rename that stream, or give jetq another namespace (JETQ_NAMESPACE)",
            )
        if any(subject.endswith(CLOSED) for subject in found["subjects"]):
            raise TopologyError(
                f"stream {name} is closed: somebody removes its queue, or was cut short while doing so",
                hint="try again in a moment; if it stays so, repeat `jetq queue rm QUEUE`",
            )
        return info, _compare(f"stream {name}", config, found)

    async def _let_it_be_deleted(self, stream: str) -> None:
        """Wait until a removal of `stream` is surely over. A cell that the remover writes tells of the removal."""

        async def is_removed() -> bool:
            with suppress(Denied):
                return await self._api.last_message(self._subjects.state, self._subjects.removed(stream)) is not None
            return False

        while await is_removed():  # noqa: ASYNC110  # only another look shows the end
            await asyncio.sleep(_LOOK_EVERY)

    async def _consumer(self, queue: str, level: Level = "normal") -> tuple[dict[str, Any], list[Drift]]:
        stream, name = self._subjects.jobs(queue), self._subjects.consumer(queue, level)
        config = self._consumer_config(queue, level)
        info = await self._api.consumer_info(stream, name)
        if info is None:
            request = {"stream_name": stream, "config": config, "action": "create"}
            try:
                info = await self._create_consumer(f"{stream}.{name}", request)
            except ApiError as error:
                if error.err_code not in _CONSUMER_EXISTS:
                    raise await self._no_consumer(queue, stream, name, error) from error
                info = await self._api.request(f"CONSUMER.INFO.{stream}.{name}")
        return info, _compare(f"consumer {name} of stream {stream}", config, info["config"])

    async def _create_consumer(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create consumer `name`, also while the server is still deleting a consumer of that name. Raises ApiError."""
        deadline = asyncio.get_running_loop().time() + DELETED_WITHIN
        while True:
            try:
                return await self._api.request(f"CONSUMER.CREATE.{name}", request)
            except ApiError as error:
                if error.err_code not in _STILL_DELETED or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(_LOOK_EVERY)

    async def others_consumers(self, queue: str) -> Sequence[str]:
        """Return the names of consumers of a queue's jobs that are not jetq's."""
        own = {self._subjects.consumer(queue, level) for level in LEVELS}
        return sorted({*await self._api.consumers(self._subjects.jobs(queue))} - own)

    async def _no_consumer(self, queue: str, stream: str, name: str, error: ApiError) -> TopologyError:
        if error.err_code != _NOT_UNIQUE:
            return _not_made(f"consumer {name} of stream {stream}", error)
        others: Sequence[str] = ()
        with suppress(BrokerError):
            others = await self.others_consumers(queue)
        return TopologyError(
            f"cannot make consumer {name} of stream {stream}: {', '.join(others) or 'another one'} takes the same "
            f"jobs, and each job can go to one consumer only (JetStream error {error.err_code})",
            hint=f"`nats consumer rm {stream} {others[0] if others else 'NAME'}` removes it; "
            f"`nats stream view {stream}` shows jobs without one",
        )

    def _jobs_config(self, queue: str) -> dict[str, Any]:
        return {
            # A full stream discards old messages: with schedules the server takes no other setting (error 10052). See
            # `room`.
            **self._base(self._subjects.jobs(queue), "jobs", self._settings.max_bytes),
            "subjects": self._subjects.job_subjects(queue),
            "retention": "workqueue",
            "duplicate_window": DEDUP_WINDOW * _NANOSECONDS,
            "allow_msg_schedules": True,
            "allow_atomic": True,
        }

    def _dead_config(self, queue: str) -> dict[str, Any]:
        return {
            **self._base(
                self._subjects.dead_letters(queue), "dead-letters", self._settings.dead_letter_max_bytes, lossless=True
            ),
            "subjects": [self._subjects.dead_subjects(queue)],
            "retention": "limits",
            "max_age": int(self._settings.dead_letter_ttl * _NANOSECONDS),
            "duplicate_window": DEDUP_WINDOW * _NANOSECONDS,
        }

    def _results_config(self) -> dict[str, Any]:
        return {
            **self._base(self._subjects.results, "results", self._settings.result_max_bytes),
            "subjects": [self._subjects.results_subjects],
            "retention": "limits",
            "max_msgs_per_subject": 1,
        }

    def _state_config(self) -> dict[str, Any]:
        return {
            **self._base(self._subjects.state, "state", self._settings.state_max_bytes, lossless=True),
            "subjects": [self._subjects.state_subjects],
            "retention": "limits",
            "max_msgs_per_subject": 1,
        }

    def _flows_config(self) -> dict[str, Any]:
        return {
            **self._base(self._subjects.flows, "flows", self._settings.workflow_max_bytes, lossless=True),
            "subjects": self._subjects.flows_subjects,
            "retention": "limits",
            "max_msgs_per_subject": 1,
            "allow_atomic": True,
        }

    def _counts_config(self) -> dict[str, Any]:
        room = self._settings.workflow_max_bytes or self._settings.max_bytes
        return {
            # A full stream drops the oldest counts: with counters the server takes no other setting. What reads a count
            # comes to the same without it, only later.
            **self._base(self._subjects.counts, "counts", room and min(room, _COUNTS_ROOM)),
            "subjects": [self._subjects.counts_subjects],
            "retention": "limits",
            "max_msgs_per_subject": 1,
            "max_age": COUNT_TTL * _NANOSECONDS,
            "allow_msg_counter": True,
            "allow_msg_ttl": False,  # the server refuses it together with counters
        }

    def _base(self, name: str, role: str, room: int | None, *, lossless: bool = False) -> dict[str, Any]:
        """Return the part of a stream's configuration that all streams share.

        With `lossless` a full stream takes no more messages; otherwise the oldest messages make room for the newest.
        """
        room = room or self._settings.max_bytes
        return {
            "name": name,
            "storage": "file",
            "discard": "new" if lossless and room else "old",
            "num_replicas": self._settings.replicas,
            "max_msgs": -1,
            "max_bytes": room or -1,
            "max_msg_size": -1,
            "max_age": 0,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "metadata": {OWNER: role},
        }

    def _consumer_config(self, queue: str, level: Level) -> dict[str, Any]:
        name = self._subjects.consumer(queue, level)
        return {
            "durable_name": name,
            "name": name,
            "filter_subjects": self._subjects.delivered_subjects(queue)
            if level == "normal"
            else self._subjects.level_subjects(queue, level),
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_wait": int(self._settings.ack_wait * _NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": -1,
            "metadata": {OWNER: "worker"},
        }


def _is_own(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a stream was made for the same purpose as the wanted one."""
    return bool((found.get("metadata") or {}).get(OWNER) == wanted["metadata"][OWNER])


def _not_made(what: str, error: ApiError) -> TopologyError:
    if error.err_code == WANTS_BOUND:
        reason = "this account wants to be told of every stream how many bytes it may have"
    else:
        reason = f"{error.description} (JetStream error {error.err_code})"
    return TopologyError(f"cannot make {what}: {reason}", hint=HINTS.get(error.err_code))


def _compare(thing: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[Drift]:
    """Return a drift for each field whose value in `found` differs from the one in `wanted`.

    There may be more replicas than wanted, and the server adds metadata.
    """
    drift = []
    for field, value in wanted.items():
        stands = found.get(field)
        if field == "metadata":
            stands = {OWNER: (stands or {}).get(OWNER)}
        if field == "num_replicas" and isinstance(stands, int) and stands >= value:
            continue
        if field in ("subjects", "filter_subjects"):
            value, stands = sorted(cast(list[str], value)), sorted(cast(list[str], stands or []))
        if stands != value and not (stands is None and not value):
            drift.append(Drift(thing=thing, field=field, wanted=_shown(field, value), found=_shown(field, stands)))
    return drift


def _shown(field: str, value: Any) -> Any:
    if field in ("ack_wait", "max_age", "duplicate_window") and isinstance(value, int):
        return f"{value / _NANOSECONDS:g} s"
    return value
