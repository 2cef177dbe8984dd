"""What a chaos run is made of: the broker, the worker processes, the proxies between them, and what was noted."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import nats
from nats.js.client import JetStreamContext

from jetq import Jetq
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.faults.chaos.checker import Attempt, Disturbance, Repeat
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsCluster, NatsServer

__all__ = ["LEASE", "QUEUE", "QUEUES", "SAME_ID_QUEUE", "WORKERS", "Link", "Scene"]

QUEUE = "chaos"
SAME_ID_QUEUE = "chaos-again"
"""Of this one the server knows an id for a second, in place of two minutes."""

QUEUES = (QUEUE, SAME_ID_QUEUE)

LEASE = 12.0
"""Longer than a pull takes to see that nothing comes any more (10.2 s). Else a delivery that the network holds back for
longer than the lease is stale without a sign, and runs twice."""

WORKERS = 3
_CONCURRENCY = 20
_ID_KNOWN_FOR = 1
"""Seconds."""

_STORE = "64MB"
"""Of a single node: small enough to be filled in a moment."""


@dataclass
class Link:
    """One process's way to the broker: a proxy before each node."""

    proxies: list[Proxy]

    @property
    def urls(self) -> str:
        return ",".join(proxy.url for proxy in self.proxies)

    def hold(self, *, up: bool, down: bool) -> None:
        for proxy in self.proxies:
            proxy.hold(up=up, down=down)

    def slow(self, delay: float) -> None:
        for proxy in self.proxies:
            proxy.slow(delay=delay)

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal()

    def reset(self) -> None:
        for proxy in self.proxies:
            proxy.reset()


@dataclass
class Scene:
    """One run. workers: the live processes, in the order of their links; the last link is the producers'. random: for
    the faults alone, so that they are the same ones whenever the jobs come."""

    seed: int
    directory: Path
    broker: NatsServer | NatsCluster
    ledger: Ledger
    links: list[Link] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @classmethod
    @asynccontextmanager
    async def open(cls, seed: int, nodes: int, directory: Path) -> AsyncIterator[Self]:
        """Broker, queue, links and workers, all gone at the end."""
        directory.mkdir(parents=True, exist_ok=True)
        broker = _broker(nodes, directory)
        self = cls(seed, directory, broker, Ledger(directory / "ledger"))
        try:
            await self._start()
            keeping = asyncio.create_task(self._keep_workers())
            try:
                yield self
            finally:
                keeping.cancel()
        finally:
            for worker in self.workers:
                worker.kill()
            for proxy in (proxy for link in self.links for proxy in link.proxies):
                await proxy.stop()
            broker.stop()

    @property
    def nodes(self) -> list[NatsServer]:
        return self.broker.nodes if isinstance(self.broker, NatsCluster) else [self.broker]

    def app(self, urls: str | None = None, *, publish_timeout: float = 5.0) -> Jetq:
        """An app of this run's settings, connected straight to the nodes unless `urls` are given."""
        return Jetq(
            urls or ",".join(node.url for node in self.nodes),
            ack_wait=LEASE,
            replicas=len(self.nodes),
            publish_timeout=publish_timeout,
        )

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStreamContext]:
        """A plain client, past the proxies."""
        client = await nats.connect([node.url for node in self.nodes], connect_timeout=2, error_cb=_ignore)
        try:
            yield client.jetstream(timeout=5.0)
        finally:
            await client.close()

    def start_worker(self, place: int, *, skew: float = 0.0) -> WorkerProcess:
        """A worker for that place, on a machine whose clock is so many seconds ahead."""
        return WorkerProcess(
            self.links[place].urls,
            self.ledger,
            concurrency=_CONCURRENCY,
            grace=2.0,
            ack_wait=LEASE,
            queue=",".join(QUEUES),
            modules="tests.apps.chaos_tasks",
            env={
                "JETQ_REPLICAS": str(len(self.nodes)),
                "JETQ_TEST_SKEW": str(skew),
                "JETQ_TEST_IMPATIENT": "1",
            },
        )

    def disturbed(self, kind: str, since: float, *, pid: int = 0) -> None:
        """Note a fault that is over now: of one process, or of the broker."""
        self.disturbances.append(Disturbance(kind, pid, since, time.time()))

    async def _keep_workers(self) -> None:
        """Start those again that a job has killed, as an init system would."""
        while True:
            since = time.time()
            await asyncio.sleep(0.1)
            for place, worker in enumerate(self.workers):
                if worker.process.poll() == -signal.SIGKILL:
                    self.disturbed("killed by a job", since, pid=worker.pid)
                    self.workers[place] = self.start_worker(place)

    async def _start(self) -> None:
        app = self.app()
        broker = await app.session.broker()
        for queue in QUEUES:
            await broker.setup(queue)
        await app.session.aclose()
        async with self.jetstream() as jetstream:
            await _forget_soon(jetstream, SAME_ID_QUEUE)
        for _ in range(WORKERS + 1):
            proxies = [Proxy(node.port) for node in self.nodes]
            await asyncio.gather(*(proxy.start() for proxy in proxies))
            self.links.append(Link(proxies))
        self.workers += [self.start_worker(place) for place in range(WORKERS)]


def _broker(nodes: int, directory: Path) -> NatsServer | NatsCluster:
    if nodes > 1:
        return NatsCluster(directory / "nats")
    return NatsServer(
        directory / "nats",
        jetstream=False,
        config=f'jetstream {{ store_dir: "{directory / "nats" / "store"}", max_file_store: {_STORE} }}\n'
        'lame_duck_duration: "30s"\nlame_duck_grace_period: "0.5s"\n',
    )


async def _forget_soon(jetstream: JetStreamContext, queue: str) -> None:
    """Shorten the time for which the server knows the ids of that queue."""
    stream = f"{queue.upper()}_JOBS"
    info = await jetstream._api_request(f"$JS.API.STREAM.INFO.{stream}", timeout=5.0)
    shortened = {**info["config"], "duplicate_window": _ID_KNOWN_FOR * 10**9}
    await jetstream._api_request(f"$JS.API.STREAM.UPDATE.{stream}", json.dumps(shortened).encode(), timeout=5.0)


async def _ignore(error: Exception) -> None:
    """nats-py prints them otherwise."""
