"""What one side of a case stands on: an empty nats-server, jetq and the floor connected to it, and its ledgers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count as numbers
from pathlib import Path
from typing import IO, Any, Literal

from benchmarks import ledger
from benchmarks.floor import Floor
from benchmarks.ledger import Ledger
from benchmarks.names import OTHER, QUEUE
from jetq import Call, Jetq, Worker
from jetq.model.names import new_job_id
from jetq.server import GIB, LocalServer

__all__ = ["Ground", "Side", "Site", "Workers"]

_WITHIN = 600.0
_POLL = 0.002

Side = Literal["jetq", "floor"]


class Site:
    """Where servers are started one after the other: a directory, one port, and the app that knows it.

    The app is the first of this process, so that tasks find it.
    """

    def __init__(self, directory: Path, *, uvloop: bool) -> None:
        self.directory = directory
        self.uvloop = uvloop
        with LocalServer(directory / "first", port=0) as server:
            self.port, self.url = server.port, server.url
        self.app = Jetq(self.url)
        self._numbers = numbers()

    @asynccontextmanager
    async def ground(self) -> AsyncIterator[Ground]:
        """A server with empty queues. At the end it is checked that they are empty again."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            with LocalServer(Path(directory) / "nats", port=self.port, max_file_store=32 * GIB) as server:
                ground = Ground(self, server, Path(directory))
                broker = await self.app.session.broker()
                for queue in (QUEUE, OTHER):
                    await broker.setup(queue)
                ground.floor = await Floor.connect(self.url, new_job_id)
                try:
                    yield ground
                    await ground.check()
                finally:
                    await ground.floor.close()
                    await self.app.session.aclose()
                    self.app.session.close()


class Ground:
    """One server, and all that a case needs of it."""

    floor: Floor

    def __init__(self, site: Site, server: LocalServer, directory: Path) -> None:
        self.app = site.app
        self.server = server
        self._site = site
        self._directory = directory
        self._ledgers: list[Ledger] = []

    @property
    def server_pid(self) -> int:
        assert self.server.pid is not None
        return self.server.pid

    def ledger(self, count: int) -> Ledger:
        """For jobs numbered from 0, to be written by this process and by the workers started from now on."""
        book = Ledger(self._directory / f"ledger-{len(self._ledgers)}", count)
        self._ledgers.append(book)
        ledger.use(book)
        return book

    async def store(self, calls: Iterable[Call[Any]]) -> None:
        """Store these jobs."""
        await self.app.adelay_many(calls)

    @asynccontextmanager
    async def worker(self, slots: int = 100, queues: Iterable[str] = (QUEUE,)) -> AsyncIterator[Worker]:
        """A worker of jetq in this process meanwhile."""
        worker = Worker(self.app, queues=list(queues), concurrency=slots)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await running

    @contextmanager
    def workers(self, side: Side, processes: int = 1, slots: int = 100) -> Iterator[Workers]:
        """Worker processes meanwhile, which end in order. The floor's have no bound of slots."""
        with (self._directory / "workers.log").open("a+") as log:
            workers = Workers(
                self._command(side, slots),
                os.environ | {"JETQ_SERVERS": self.server.url, ledger.LEDGER: str(self._ledgers[-1].file)},
                log,
                processes,
            )
            try:
                yield workers
            finally:
                workers.stop()

    def _command(self, side: Side, slots: int) -> list[str]:
        if side == "floor":
            return [sys.executable, "-m", "benchmarks.floor"]
        loop = "--uvloop" if self._site.uvloop else "--no-uvloop"
        words = ["worker", "benchmarks.tasks", "--no-plugins", loop, "-c", str(slots), "--log-level", "warning"]
        return [sys.executable, "-m", "jetq", *words]

    async def hold(self) -> None:
        """Let the first queue hand out nothing until `release`."""
        await (await self.app.session.broker()).pause(QUEUE)

    async def release(self) -> None:
        """Let it hand out what has gathered."""
        await (await self.app.session.broker()).resume(QUEUE)

    async def listening(self, workers: Workers) -> None:
        """Return once each of these processes waits for jobs of the first queue."""
        broker = await self.app.session.broker()
        deadline = time.monotonic() + 30.0
        while sum(info.waiting for info in await broker.queues() if info.name == QUEUE) < len(workers.pids):
            assert time.monotonic() < deadline, "no worker listens"
            workers.check()
            await asyncio.sleep(0.01)

    async def complete(self, book: Ledger, workers: Workers | None = None, *, poll: float = _POLL) -> None:
        """Return once every job of `book` has run. poll: seconds between looks."""
        await self.ran(book, book.count, workers, poll=poll)

    async def ran(self, book: Ledger, enough: int, workers: Workers | None = None, *, poll: float = _POLL) -> None:
        """Return once `enough` jobs of `book` have run."""
        deadline = time.monotonic() + _WITHIN
        while book.count - book.left < enough:
            assert time.monotonic() < deadline, f"{book.left:,} of {book.count:,} jobs have not run after {_WITHIN:g} s"
            if workers is not None:
                workers.check()
            await asyncio.sleep(poll)

    async def drained(self) -> None:
        """Run what is stored by the floor, unmeasured: how a case of producers has its ledger filled in."""
        async with self.floor.working((QUEUE, OTHER)):
            await self.complete(self._ledgers[-1])

    async def check(self) -> None:
        """Raises AssertionError unless each job ran once, and nothing is left, scheduled or dead."""
        for book in self._ledgers:
            book.check()
        broker = await self.app.session.broker()
        deadline = time.monotonic() + 5.0  # the last acks may be on their way
        while True:
            infos = [info for info in await broker.queues() if info.name in (QUEUE, OTHER)]
            left = [info for info in infos if info.ready or info.running or info.scheduled or info.dead]
            if not left:
                return
            assert time.monotonic() < deadline, f"the ledger does not add up: {left}"
            await asyncio.sleep(0.01)


class Workers:
    """Processes of one command, without a supervisor."""

    def __init__(self, command: list[str], environment: dict[str, str], log: IO[str], processes: int) -> None:
        self._log = log
        self._processes = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for _ in range(processes)]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Raises AssertionError if one has ended."""
        assert all(process.poll() is None for process in self._processes), self._said()

    def stop(self) -> None:
        """Let them end in order. Raises AssertionError if one does not."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in self._processes]
        assert not any(codes), self._said()

    def _said(self) -> str:
        self._log.seek(0)
        return f"a worker process has ended: {self._log.read()[-2000:]}"
