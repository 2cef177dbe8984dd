"""Dramatiq: jobs are acknowledged once they ran; those of a worker without a heartbeat go back to the queue.

* `worker_threads` = the slots, twice as many prefetched, all default middleware: what each process of the `dramatiq`
  command runs (user guide, "Workers", "Message Prefetching"). No results: its middleware is added by those who want it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
from _protocol import BODY, Options, SyncStore, note, run
from dramatiq.brokers.redis import RedisBroker


def job_of(options: Options) -> tuple[RedisBroker, Any]:
    broker = RedisBroker(url=options.url)

    @dramatiq.actor(broker=broker, actor_name="plain")
    def plain(number: int, sent: float, payload: str) -> None:
        note(number, sent)

    return broker, plain


@contextmanager
def producer(options: Options) -> Iterator[SyncStore]:
    broker, plain = job_of(options)
    yield lambda number, sent: plain.send(number, sent, BODY)
    broker.close()


def work(options: Options, until: Callable[[], None]) -> None:
    broker, _ = job_of(options)
    worker = dramatiq.Worker(broker, worker_threads=options.slots)
    worker.start()
    until()
    worker.stop()
    broker.close()


if __name__ == "__main__":
    run(sync_producer=producer, sync_work=work)
