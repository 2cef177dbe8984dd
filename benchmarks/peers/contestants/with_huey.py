"""Huey: a list in Redis. It has no acknowledgement: a job that was popped is lost with its consumer (docs, "Consumer").

* `RedisHuey` with `blocking=True`, its default: no polling (docs, "Storage").
* `results=False`: no results kept; `workers` = the slots, as threads (docs, "Consumer options").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _protocol import BODY, Options, SyncStore, note, run
from huey import RedisHuey


def job_of(options: Options) -> tuple[RedisHuey, Any]:
    huey = RedisHuey("bench", url=options.url, results=False)

    @huey.task()
    def plain(number: int, sent: float, payload: str) -> None:
        note(number, sent)

    return huey, plain


@contextmanager
def producer(options: Options) -> Iterator[SyncStore]:
    _, plain = job_of(options)
    yield lambda number, sent: plain(number, sent, BODY)


def work(options: Options, until: Callable[[], None]) -> None:
    huey, _ = job_of(options)
    consumer = huey.create_consumer(workers=options.slots, worker_type="thread", periodic=False)
    consumer.start()
    until()
    consumer.stop(graceful=True)


if __name__ == "__main__":
    run(sync_producer=producer, sync_work=work)
