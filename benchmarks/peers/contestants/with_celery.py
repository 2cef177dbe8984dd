"""Celery on Redis, in threads: acknowledged late, and given back when its worker is lost.

* `task_acks_late`, `task_reject_on_worker_lost`: at least once (user guide, "Tasks").
* `worker_prefetch_multiplier=50` as advised for many short jobs, `ignore_result` (user guide, "Optimizing", "Tasks").
* no gossip, mingle and heartbeat, which Redis does not need (user guide, "Workers").
* `broker_pool_limit` = the callers: one connection each (configuration reference).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from _protocol import BODY, Options, SyncStore, note, run
from celery import Celery


def job_of(options: Options) -> tuple[Celery, Any]:
    app = Celery("bench", broker=options.url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=50,
        broker_pool_limit=max(10, options.callers),
        worker_redirect_stdouts=False,  # the answer goes there
    )

    @app.task(name="plain")
    def plain(number: int, sent: float, payload: str) -> None:
        note(number, sent)

    return app, plain


@contextmanager
def producer(options: Options) -> Iterator[SyncStore]:
    app, plain = job_of(options)
    yield lambda number, sent: plain.delay(number, sent, BODY)
    app.close()


def work(options: Options, until: Callable[[], None]) -> None:
    app, _ = job_of(options)
    worker = app.Worker(
        pool="threads",
        concurrency=options.slots,
        loglevel="ERROR",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )

    def stop_at_the_end() -> None:
        until()
        worker.stop()

    threading.Thread(target=stop_at_the_end, daemon=True).start()
    with suppress(SystemExit):  # the way in which it ends
        worker.start()


if __name__ == "__main__":
    run(sync_producer=producer, sync_work=work)
