"""What the fault tests share: an app of the test's own on a server, its ledger, and questions to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from jetq import Jetq
from jetq.broker import Broker
from jetq.model.dead_letter import DeadEntry
from jetq.model.queue_info import QueueInfo
from tests.apps.ledger import Ledger

QUEUE = "ledger"


class Harness:
    """A producer's view: enqueue, and look."""

    def __init__(self, app: Jetq, broker: Broker, url: str, ledger: Ledger) -> None:
        self.app = app
        self.broker = broker
        self.url = url
        self.ledger = ledger

    async def send(self, task: str, count: int = 1, *, expires: float | None = None, **arguments: object) -> list[str]:
        """Enqueue `count` jobs numbered from 0; their ids."""
        name = f"tests.apps.ledger_tasks.{task}"
        calls = [self.app.call(name, {"n": n, **arguments}, queue=QUEUE, expires=expires) for n in range(count)]
        return [job.id for job in await self.app.adelay_many(calls)]

    async def info(self) -> QueueInfo:
        return next(info for info in await self.broker.queues() if info.name == QUEUE)

    async def dead(self) -> list[DeadEntry]:
        return list(await self.broker.dead(QUEUE))

    async def until(self, condition: Callable[[QueueInfo], bool], timeout: float = 30.0) -> None:
        """Until the queue's numbers satisfy `condition`."""
        info = None
        try:
            async with asyncio.timeout(timeout):
                while not condition(info := await self.info()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the queue did not get there in {timeout:g} s: {info}") from None

    async def until_done(self, timeout: float = 30.0) -> None:
        """Until nothing is ready, running or scheduled."""
        await self.until(lambda info: info.ready == info.running == info.scheduled == 0, timeout)


@asynccontextmanager
async def harness(url: str, directory: Path, **settings: float | str) -> AsyncIterator[Harness]:
    """A harness on the server at `url`, its ledger in `directory`."""
    app = Jetq(url, **settings)  # type: ignore[arg-type]
    try:
        broker = await app.session.broker()
        await broker.setup(QUEUE)
        yield Harness(app, broker, url, Ledger(directory / "ledger"))
    finally:
        await app.session.aclose()
        await asyncio.to_thread(app.session.close)  # that of threads, which would look for its server for ever
