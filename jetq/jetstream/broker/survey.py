"""Looks at everything beneath jetq without changing any of it, for `jetq doctor`."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from jetq.errors import BrokerError, BrokerUnavailable, Denied
from jetq.jetstream.broker.base import Base
from jetq.jetstream.broker.queues import job_streams
from jetq.jetstream.streams.domains import STORES_NOTHING, takers
from jetq.jetstream.streams.reading import each_message
from jetq.jetstream.streams.subjects import job_tokens
from jetq.jetstream.streams.topology import OWNER, Seen
from jetq.jetstream.transport.connection import NoReply, NoResponders, NotAllowed
from jetq.model.deployment_facts import ConsumerFacts, Drift, ServerFacts, StreamFacts, Survey, Usage
from jetq.model.job import LEVELS, Level
from jetq.model.names import NO_KEY
from jetq.model.oversized import KEPT, read_kept
from jetq.settings import safe_url

__all__ = ["Deployment"]

_PROBED_WITHIN = 1.0
_LOOK_AGAIN_AFTER = 1.0
"""Seconds. An acked message is removed right after it counts as done; a message that is still stored after this time
will stay."""
_NAMED = 5


class _Notes(Struct):
    """The findings so far."""

    streams: list[StreamFacts] = field(default_factory=list)
    consumers: list[ConsumerFacts] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    denied: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[tuple[str, str]] = field(default_factory=list)
    twofold: list[str] = field(default_factory=list)
    wants_max_bytes: bool = False
    listed: bool = True
    clocks: list[tuple[float, float]] = field(default_factory=list)
    roomless: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)


class Deployment(Base):
    """The part of `jetq.broker.queues.Queues` that looks beneath jetq, for `jetq doctor`."""

    async def survey(self, tasks: Mapping[str, str | None]) -> Survey:
        notes = _Notes()
        usage = await self._usage(notes)
        for queue in sorted({*tasks, *await self._stored_queues(notes)}):
            await self._look_at_queue(queue, notes)
        for wanted in self.topology.shared_streams():
            await self._look_at_stream("", wanted, notes)
        for optional in (self.topology.records_stream(), *self.topology.ledger_streams()):
            await self._look_at_stream("", optional, notes, optional=True)
        await self._look_at_domains(notes)
        await self._probe(tasks, notes)
        return Survey(
            server=self._server(notes),
            usage=usage,
            streams=tuple(notes.streams),
            consumers=tuple(notes.consumers),
            drift=tuple(notes.drift),
            denied=tuple(dict.fromkeys(notes.denied)),
            unseen=tuple(dict.fromkeys(notes.unseen)),
            twofold=tuple(notes.twofold),
            wants_max_bytes=notes.wants_max_bytes,
            listed=notes.listed,
            roomless=tuple(notes.roomless),
        )

    # --- the server

    def _server(self, notes: _Notes) -> ServerFacts:
        client = self.connection.client
        if client is None:
            raise BrokerUnavailable("the connection was lost while jetq looked around", hint="try again")
        greeting, peer = client.greeting, client.peer
        error, clock = min(notes.clocks, default=(0.0, 0.0))
        return ServerFacts(
            address=safe_url(client.connected_url.geturl() if client.connected_url else ""),
            version=str(greeting.get("version", "")),
            max_payload=self.connection.max_payload,
            encrypted=client.encrypted,
            authenticated=bool(greeting.get("auth_required")),
            local=bool(peer) and ipaddress.ip_address(peer.partition("%")[0]).is_loopback,
            exposed=str(greeting.get("host", "")) in ("", "0.0.0.0", "::"),
            clustered=bool(greeting.get("cluster")),
            clock=clock,
            clock_error=error,
        )

    async def _usage(self, notes: _Notes) -> tuple[Usage, ...]:
        """Return how much is used of what the account may have."""
        try:
            info = await self.api.request("INFO")
        except Denied as denied:
            notes.denied.append(("look at the account", denied.subject))
            return ()
        tier = (info.get("tiers") or {}).get(f"R{self.settings.replicas}", info)
        limits = tier["limits"]
        notes.wants_max_bytes = bool(limits.get("max_bytes_required")) and self.settings.max_bytes is None
        return (
            Usage("storage of the account", int(tier["storage"]), _limit(limits["max_storage"])),
            Usage("streams of the account", int(tier["streams"]), _count(limits["max_streams"]), bytes=False),
            Usage("consumers of the account", int(tier["consumers"]), _count(limits["max_consumers"]), bytes=False),
        )

    # --- streams and consumers

    async def _stored_queues(self, notes: _Notes) -> Sequence[str]:
        try:
            return list(await job_streams(self))
        except Denied as denied:
            notes.unseen.append(("list the queues", denied.subject))
            notes.listed = False
            return ()

    async def _look_at_queue(self, queue: str, notes: _Notes) -> None:
        for wanted in self.topology.streams_of(queue):
            await self._look_at_stream(queue, wanted, notes)
        if any(stream.queue == queue and stream.state == "stands" for stream in notes.streams if stream.role == "jobs"):
            await self._look_at_consumers(queue, notes)
            await self._look_at_kept(queue, notes)

    async def _look_at_kept(self, queue: str, notes: _Notes) -> None:
        where, sequence, ids = self.subjects.cell(f"{KEPT}.{queue}.*"), 1, list[str]()
        try:
            while len(ids) < _NAMED and (message := await self.api.next_message(self.subjects.state, where, sequence)):
                sequence = message.sequence + 1
                kept = read_kept(message.data)
                if kept is not None and kept.dead:
                    ids.append(message.subject.rpartition(".")[2])
        except Denied as denied:
            notes.unseen.append(("look for dead jobs that stay in their queue", denied.subject))
        if ids:
            notes.roomless.append((queue, tuple(ids)))

    async def _look_at_domains(self, notes: _Notes) -> None:
        """Note each stream of jobs for which two streams answer."""
        jobs = {
            stream.name: stream.queue for stream in notes.streams if (stream.role, stream.state) == ("jobs", "stands")
        }
        found = await asyncio.gather(
            *(takers(self.connection, self.subjects.first(queue), enough=2) for queue in jobs.values())
        )
        notes.twofold += [name for name, names in zip(jobs, found, strict=True) if names.count(name) > 1]

    async def _look_at_stream(
        self, queue: str, wanted: Mapping[str, Any], notes: _Notes, *, optional: bool = False
    ) -> None:
        name, role = wanted["name"], wanted["metadata"][OWNER]
        asked = time.time()
        try:
            seen = await self.topology.look_at_stream(wanted)
        except Denied as denied:
            (notes.unseen if optional else notes.denied).append((f"look at stream {name}", denied.subject))
            return
        except BrokerUnavailable:
            notes.streams.append(StreamFacts(name, queue, role, state="silent"))
            return
        answered = time.time()
        if seen.info is None and optional:
            return
        if seen.info is None:
            notes.streams.append(StreamFacts(name, queue, role, state="missing"))
            return
        told = datetime.fromisoformat(seen.info["ts"]).timestamp()
        notes.clocks.append(((answered - asked) / 2, (asked + answered) / 2 - told))
        notes.drift += seen.drift
        dropped = role == "jobs" and not seen.foreign and await self._has_dropped(queue, seen.info)
        notes.streams.append(_stream(name, queue, role, seen, dropped=dropped))

    async def _has_dropped(self, queue: str, info: Mapping[str, Any]) -> bool:
        """Return whether a bounded stream was full once: the message that is first in the stream is dropped first."""
        if int(info["config"].get("max_bytes", -1)) <= 0 or not info["state"]["messages"]:
            return False
        try:
            return await self.api.first_message(self.subjects.jobs(queue), self.subjects.first(queue), 1) is None
        except BrokerError:
            return False

    async def _look_at_consumers(self, queue: str, notes: _Notes) -> None:
        levels = {level: await self._look_at_consumer(queue, level, notes) for level in LEVELS}
        optional = [levels[level] for level in LEVELS if level != "normal"]
        for level, consumer in levels.items():
            # A queue has the consumers of both levels beside the normal one, or neither of these two.
            if consumer is not None and (consumer.stands or level == "normal" or any(c and c.stands for c in optional)):
                notes.consumers.append(consumer)

    async def _look_at_consumer(self, queue: str, level: Level, notes: _Notes) -> ConsumerFacts | None:
        stream, name = self.subjects.jobs(queue), self.subjects.consumer(queue, level)
        try:
            seen = await self.topology.look_at_consumer(queue, level)
            passed = await self._passed(queue, level, seen)
        except Denied as denied:
            needed = level == "normal"  # a worker asks for the others only where they exist
            (notes.denied if needed else notes.unseen).append((f"look at consumer {name}", denied.subject))
            return None
        except BrokerUnavailable:
            return None  # its stream has no leader, which is reported elsewhere
        if seen.info is None:
            others = await self._others(queue) if level == "normal" else ()
            return ConsumerFacts(name, stream, queue, stands=False, others=tuple(others))
        notes.drift += seen.drift
        return ConsumerFacts(
            name,
            stream,
            queue,
            ready=int(seen.info["num_pending"]),
            running=int(seen.info["num_ack_pending"]),
            waiting=int(seen.info["num_waiting"]),
            passed=passed,
        )

    async def _others(self, queue: str) -> Sequence[str]:
        try:
            return await self.topology.others_consumers(queue)
        except BrokerError:
            return ()

    async def _passed(self, queue: str, level: Level, seen: Seen) -> tuple[str, ...]:
        """Return the ids of jobs that two looks find stored below what the consumer counts as done."""
        if seen.info is None:
            return ()
        done = int(seen.info["ack_floor"]["stream_seq"])
        first = await self._stand_until(queue, level, done)
        if first:
            await asyncio.sleep(_LOOK_AGAIN_AFTER)
            again = await self._stand_until(queue, level, done)
            first = {sequence: id for sequence, id in first.items() if sequence in again}
        return tuple(first.values())

    async def _stand_until(self, queue: str, level: Level, last: int) -> dict[int, str]:
        """Return the sequences and ids of the first few messages of a consumer, up to sequence `last`."""
        subjects = (
            self.subjects.delivered_subjects(queue) if level == "normal" else self.subjects.level_subjects(queue, level)
        )
        found: dict[int, str] = {}
        for subject in subjects:
            async for message in each_message(
                self.api,
                self.subjects.jobs(queue),
                subject,
                at_once=1,
                until=last,
                limit=_NAMED - len(found),
                surely=True,
            ):
                found[message.sequence] = job_tokens(message.subject, message.sequence)[3]
        return found

    # --- permissions

    async def _probe(self, tasks: Mapping[str, str | None], notes: _Notes) -> None:
        """Try each subject that jetq publishes to, by a publish that stores nothing."""
        probes: list[tuple[str, str]] = []
        for queue, task in tasks.items():
            if task is not None:
                run = self.subjects.run(queue, task, NO_KEY, "doctor")
                probes += [
                    (f"enqueue jobs of {task}", run),
                    (f"put off jobs of {task}", self.subjects.later(queue, task, NO_KEY, "doctor")),
                    (f"write dead letters of {task}", self.subjects.dead(queue, task, "doctor")),
                ]
        probes.append(("store results", self.subjects.result("doctor")))
        allowed = await asyncio.gather(*(self._may_publish(subject) for _, subject in probes))
        notes.denied += [probe for probe, ok in zip(probes, allowed, strict=True) if not ok]

    async def _may_publish(self, subject: str) -> bool:
        try:
            await self.connection.request(subject, headers=STORES_NOTHING, timeout=_PROBED_WITHIN)
        except NotAllowed:
            return False
        except (NoReply, NoResponders):
            return True  # no stream is there, or none that answers; the permission was there
        return True


def _stream(name: str, queue: str, role: Any, seen: Seen, *, dropped: bool) -> StreamFacts:
    assert seen.info is not None
    if seen.foreign:
        return StreamFacts(name, queue, role, state="foreign")
    config, state = seen.info["config"], seen.info["state"]
    replicas = (seen.info.get("cluster") or {}).get("replicas") or []
    return StreamFacts(
        name,
        queue,
        role,
        storage=str(config["storage"]),
        replicas=int(config["num_replicas"]),
        messages=int(state["messages"]),
        bytes=int(state["bytes"]),
        max_bytes=_count(int(config.get("max_bytes", -1))),
        dropped=dropped,
        offline=tuple(str(replica["name"]) for replica in replicas if replica.get("offline")),
    )


def _limit(limit: int) -> int | None:
    """Return a limit in bytes; None if there is none. 0 means no bytes at all (error 10047, nats-server 2.15.1)."""
    return None if limit < 0 else limit


def _count(limit: int) -> int | None:
    """Return a limit; None if there is none. For streams and consumers 0 means no limit too (nats-server 2.15.1)."""
    return None if limit <= 0 else limit
