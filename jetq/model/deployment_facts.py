"""Facts about a deployment as jetq found it: the server, its limits, streams, consumers and denied subjects.

`jetq.operations.doctor.findings` says what the facts mean.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = ["ConsumerFacts", "Drift", "Monitored", "ServerFacts", "StreamFacts", "Survey", "Usage"]


class Drift(Struct, frozen=True):
    """One field of a stream or consumer that differs from what jetq needs."""

    thing: str
    field: str
    wanted: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.thing}: {self.field} is {self.found!r}, jetq needs {self.wanted!r}"


class ServerFacts(Struct, frozen=True):
    """The server that jetq is connected to, and the connection."""

    address: str
    """Its host and port."""

    version: str
    """Its version."""

    max_payload: int
    """The most bytes that a message may have."""

    encrypted: bool
    """Whether the connection uses TLS."""

    authenticated: bool
    """Whether the server asks who connects."""

    local: bool
    """Whether the connection goes over the loopback interface."""

    exposed: bool
    """Whether the server listens on every address of its machine."""

    clustered: bool
    """Whether the server is part of a cluster."""

    clock: float
    """Seconds by which this machine's clock is ahead of the server's, give or take `clock_error`."""

    clock_error: float
    """Seconds by which `clock` may be wrong."""


class Usage(Struct, frozen=True):
    """How much of `what` is used. limit: the most that may be used; None: no limit. bytes: whether both are sizes."""

    what: str
    used: int
    limit: int | None
    bytes: bool = True


class StreamFacts(Struct, frozen=True):
    """A stream that jetq needs, of one queue or of the namespace."""

    name: str
    """The name of the stream."""

    queue: str
    """The queue that the stream belongs to; empty for a stream of the namespace."""

    role: Literal["jobs", "dead-letters", "results", "state", "records", "flows", "counts"]
    """What the stream holds."""

    state: Literal["stands", "missing", "foreign", "silent"] = "stands"
    """`stands`: the stream exists. `missing`: no stream of the name exists. `foreign`: the stream of the name is not
    jetq's. `silent`: the stream does not answer, for want of a leader."""

    storage: str = "file"
    """Where the server keeps the stream: `file` or `memory`."""

    replicas: int = 1
    """How many copies of the stream the cluster has."""

    messages: int = 0
    """How many messages the stream holds."""

    offline: tuple[str, ...] = ()
    """The names of the servers that hold a copy and are offline."""

    bytes: int = 0
    """How many bytes the stream holds."""

    max_bytes: int | None = None
    """The most bytes that the stream may hold; None for no bound."""

    dropped: bool = False
    """Whether the stream was full, and the server removed jobs to make room."""


class ConsumerFacts(Struct, frozen=True):
    """The workers' consumer of a queue's level."""

    name: str
    """The name of the consumer."""

    stream: str
    """The stream that the consumer reads."""

    queue: str
    """The queue that the consumer belongs to."""

    stands: bool = True
    """Whether the consumer exists."""

    ready: int = 0
    """Jobs that the consumer can hand out now."""

    running: int = 0
    """Jobs that the consumer has handed out."""

    waiting: int = 0
    """Requests of workers that wait for a job."""

    passed: tuple[str, ...] = ()
    """The ids of some jobs at the front of the stream that the consumer counts as done, although they are still stored.
    The consumer will never hand these jobs out."""

    others: tuple[str, ...] = ()
    """If the consumer is missing: the names of the consumers of the stream that are not jetq's."""


class Survey(Struct, frozen=True):
    """All facts about a deployment."""

    server: ServerFacts
    """The server that jetq is connected to."""

    usage: tuple[Usage, ...] = ()
    """How much of the account's limits is used."""

    streams: tuple[StreamFacts, ...] = ()
    """The streams that jetq needs."""

    consumers: tuple[ConsumerFacts, ...] = ()
    """The workers' consumers."""

    drift: tuple[Drift, ...] = ()
    """Each field of a stream or consumer that differs from what jetq needs."""

    denied: tuple[tuple[str, str], ...] = ()
    """The subjects that workers and producers need and that this user may not publish to, each with its purpose."""

    unseen: tuple[tuple[str, str], ...] = ()
    """The denied subjects that only the survey itself needs, each with its purpose."""

    twofold: tuple[str, ...] = ()
    """The streams of jobs that exist in a second JetStream domain as well."""

    wants_max_bytes: bool = False
    """Whether the account demands a bound of bytes for every stream, and the settings have none."""

    listed: bool = True
    """Whether all queues are known."""

    roomless: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Queues, each with the ids of some dead jobs that stay there, because their dead letters found no room."""


class Monitored(Struct, frozen=True):
    """What the monitoring of one server tells.

    directory: where the server keeps its streams. sync_interval: seconds between two writes to the disk itself; 0 if
    the server writes after each message.
    """

    url: str
    directory: str
    sync_interval: float
    storage: Usage
