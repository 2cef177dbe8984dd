"""What stands beneath jetq, as it was found: the server, its limits, the streams and consumers, and what is denied.

Facts only; `jetq.operations.doctor.findings` says what they mean.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = ["ConsumerFacts", "Drift", "Monitored", "ServerFacts", "StreamFacts", "Survey", "Usage"]


class Drift(Struct, frozen=True):
    """One field of what stands that differs from what jetq needs."""

    thing: str
    field: str
    wanted: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.thing}: {self.field} is {self.found!r}, jetq needs {self.wanted!r}"


class ServerFacts(Struct, frozen=True):
    """The server connected to, and how."""

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
    """How much of `what` is used, of how much at most (None: no limit). `bytes`: that both are sizes."""

    what: str
    used: int
    limit: int | None
    bytes: bool = True


class StreamFacts(Struct, frozen=True):
    """A stream that jetq needs, of one queue or of the namespace."""

    name: str
    """The name of the stream."""

    queue: str
    """The queue it belongs to; empty for a stream of the namespace."""

    role: Literal["jobs", "dead-letters", "results", "state"]
    """What the stream holds."""

    state: Literal["stands", "missing", "foreign", "silent"] = "stands"
    """`foreign`: a stream of that name is not jetq's; `silent`: it does not answer, for want of a leader."""

    storage: str = "file"
    """Where the server keeps it: `file` or `memory`."""

    replicas: int = 1
    """Copies of it in the cluster."""

    messages: int = 0
    """How many messages it holds."""

    offline: tuple[str, ...] = ()
    """The names of servers that hold a copy and are away."""

    bytes: int = 0
    """How many bytes it holds."""

    max_bytes: int | None = None
    """The most bytes that it may hold; None for no bound."""

    dropped: bool = False
    """Whether it was full, and the server removed jobs to make room."""


class ConsumerFacts(Struct, frozen=True):
    """The workers' consumer of a queue's level."""

    name: str
    """The name of the consumer."""

    stream: str
    """The stream it reads."""

    queue: str
    """The queue it belongs to."""

    stands: bool = True
    """Whether the consumer exists."""

    ready: int = 0
    """Jobs that it can hand out now."""

    running: int = 0
    """Jobs that it has handed out."""

    waiting: int = 0
    """Requests of workers that wait for a job."""

    passed: tuple[str, ...] = ()
    """The ids of some jobs, of those in front, that the consumer counts as done and that are stored all the same: it
    will never hand them out."""

    others: tuple[str, ...] = ()
    """Where the consumer is missing, those of the stream that are not jetq's."""


class Survey(Struct, frozen=True):
    """All facts about a deployment."""

    server: ServerFacts
    """The server connected to."""

    usage: tuple[Usage, ...] = ()
    """How much of the account's limits is used."""

    streams: tuple[StreamFacts, ...] = ()
    """The streams that jetq needs."""

    consumers: tuple[ConsumerFacts, ...] = ()
    """The workers' consumers."""

    drift: tuple[Drift, ...] = ()
    """What is stored in other ways than jetq needs."""

    denied: tuple[tuple[str, str], ...] = ()
    """The subjects that workers and producers need and that this user may not publish to, each with what it is for."""

    unseen: tuple[tuple[str, str], ...] = ()
    """Denied subjects that only the survey itself needs, each with what it is for."""

    twofold: tuple[str, ...] = ()
    """The streams of jobs that exist in a second JetStream domain as well."""

    wants_max_bytes: bool = False
    """Whether the account wants a bound of every stream, and there is none."""

    listed: bool = True
    """Whether all queues are known."""

    roomless: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Queues, each with the ids of some jobs that are dead and stay, for want of room for their dead letters."""


class Monitored(Struct, frozen=True):
    """What the monitoring of one server tells. `directory`: where its streams are. `sync_interval`: seconds between two
    writes to the disk itself, 0 for one after each message."""

    url: str
    directory: str
    sync_interval: float
    storage: Usage
