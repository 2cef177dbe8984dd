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
    """The server connected to, and how.

    `local`: over the loopback interface. `exposed`: it listens on every address of its machine. `clock`: by how many
    seconds, give or take `clock_error`, this machine's clock is ahead of the server's.
    """

    address: str
    version: str
    max_payload: int
    encrypted: bool
    authenticated: bool
    local: bool
    exposed: bool
    clustered: bool
    clock: float
    clock_error: float


class Usage(Struct, frozen=True):
    """How much of `what` is used, of how much at most (None: no limit). `bytes`: that both are sizes."""

    what: str
    used: int
    limit: int | None
    bytes: bool = True


class StreamFacts(Struct, frozen=True):
    """A stream that jetq needs, of one queue or, with `queue` "", of the namespace.

    `state`: "foreign" is one of that name that is not jetq's, "silent" one that does not answer, for want of a leader.
    `offline`: the names of servers that hold a copy and are away. `max_bytes`: the most that it may hold, None for no
    bound. `dropped`: it was full, and the server removed jobs to make room.
    """

    name: str
    queue: str
    role: Literal["jobs", "dead-letters", "results", "state"]
    state: Literal["stands", "missing", "foreign", "silent"] = "stands"
    storage: str = "file"
    replicas: int = 1
    messages: int = 0
    offline: tuple[str, ...] = ()
    bytes: int = 0
    max_bytes: int | None = None
    dropped: bool = False


class ConsumerFacts(Struct, frozen=True):
    """The workers' consumer of a queue's level. `passed`: the ids of some jobs, of those in front, that it counts as
    done and that stand all the same: it will never hand them out. `others`: where it is missing, those that are not
    jetq's."""

    name: str
    stream: str
    queue: str
    stands: bool = True
    ready: int = 0
    running: int = 0
    waiting: int = 0
    passed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Survey(Struct, frozen=True):
    """All of it. `denied`: the subjects that workers and producers need and that this user may not publish to, each
    with what it is for; `unseen`: those that only the looking around needs. `twofold`: the streams of jobs that stand
    in a second JetStream domain as well. `wants_max_bytes`: the account wants a bound of every stream, and there is
    none. `listed`: all queues are known. `roomless`: queues with the ids of some jobs that are dead and stay, for want
    of room for their letters."""

    server: ServerFacts
    usage: tuple[Usage, ...] = ()
    streams: tuple[StreamFacts, ...] = ()
    consumers: tuple[ConsumerFacts, ...] = ()
    drift: tuple[Drift, ...] = ()
    denied: tuple[tuple[str, str], ...] = ()
    unseen: tuple[tuple[str, str], ...] = ()
    twofold: tuple[str, ...] = ()
    wants_max_bytes: bool = False
    listed: bool = True
    roomless: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Monitored(Struct, frozen=True):
    """What the monitoring of one server tells. `directory`: where its streams are. `sync_interval`: seconds between two
    writes to the disk itself, 0 for one after each message."""

    url: str
    directory: str
    sync_interval: float
    storage: Usage
