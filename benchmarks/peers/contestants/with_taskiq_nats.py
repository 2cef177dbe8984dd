"""taskiq on JetStream: the pull broker, which its README recommends where jobs must reach a worker; acks once they ran.

* `pull_consume_batch` = the slots: one job per request is its default (README, "PullBasedJetStreamBroker").
* `pull_consume_timeout` of a second, so that an idle worker asks again (the same).
* acknowledged when saved, no result backend, 100 async tasks: the defaults of `taskiq worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from _protocol import BODY, Options, Store, note, run
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task
from taskiq_nats import PullBasedJetStreamBroker


async def noop(number: int, sent: float, payload: str) -> None:
    note(number, sent)


def plain(number: int, sent: float, payload: str) -> None:
    note(number, sent)


def broker_of(options: Options) -> AsyncBroker:
    return PullBasedJetStreamBroker(options.url, pull_consume_batch=options.slots, pull_consume_timeout=1.0)


@asynccontextmanager
async def producer(options: Options) -> AsyncIterator[Store]:
    broker = broker_of(options)
    job = broker.register_task(noop if options.job == "loop" else plain, task_name=options.job)
    await broker.startup()
    yield lambda number, sent: job.kiq(number, sent, BODY)
    await broker.shutdown()


async def work(options: Options, until: Callable[[], Awaitable[None]]) -> None:
    broker = broker_of(options)
    broker.register_task(noop, task_name="loop")
    broker.register_task(plain, task_name="threads")
    broker.is_worker_process = True
    await broker.startup()
    running = asyncio.create_task(run_receiver_task(broker, sync_workers=options.slots, max_async_tasks=options.slots))
    await until()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await broker.shutdown()


if __name__ == "__main__":
    run(producer=producer, work=work)
