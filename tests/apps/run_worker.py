"""A worker process for the fault tests: `python -m tests.apps.run_worker QUEUES CONCURRENCY GRACE MODULE`.

QUEUES are names with commas between them. MODULE defines the tasks, and perhaps the app's `on_expired` and `payloads`.
With JETQ_TEST_KILL_AT=N the process kills itself at the N-th call of the broker's verbs (each counts twice: before it
begins and after it returned), and with JETQ_TEST_CALLS=FILE it writes down each such call. With JETQ_TEST_SKEW=S the
clock of its machine seems to be so many seconds ahead; SIGUSR1 sets it ten minutes further, and the next one back. With
JETQ_TEST_IMPATIENT=1 it waits for newer code and for room in the dead letters for seconds, where others do for minutes.
With JETQ_TEST_WATCH=S the watch of a workflow takes a turn every S seconds, and waits for a plan three times as long.
With JETQ_TEST_STAMPS=FILE it writes down when the broker stored each job that it is handed out.
With JETQ_TEST_STOP_AT=N the process stops itself, as by SIGSTOP, at the N-th call by which a member of a workflow sets
something off (each counts twice), and with JETQ_TEST_STOPS=FILE it writes down each such call. With JETQ_TEST_STALE=S a
member that is stored S seconds after it was found to be due is a suspect.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import time
from types import ModuleType
from typing import TYPE_CHECKING

from jetq import Jetq, Worker

if TYPE_CHECKING:
    from jetq.model.job import Delivery


def stamp_deliveries(app: Jetq, path: str) -> None:
    """Write down the broker's time stamp of each delivery in the file at `path`."""
    from tests.apps.deliveries import watch_deliveries  # it needs what an older version of the package does not have

    def stamp(delivery: Delivery) -> None:
        with open(path, "a") as stamps:
            stamps.write(f"{delivery.id} {delivery.stored_at:.6f}\n")

    watch_deliveries(app, stamp)


_FIRES = ("write_entry", "write_entries", "count_up", "standing_entries", "enqueue_many")


def stop_at(app: Jetq, number: int, path: str) -> None:
    """Stop this process at call `number` of those by which a member of a workflow sets something off."""
    from jetq.broker import Broker
    from jetq.testing.faulty import Points, faulty

    connect = app.session.connect

    def reached(count: int, where: str) -> None:
        with open(path, "a") as calls:
            calls.write(f"{count} {where}\n")
        if count == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    async def connect_counted(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [Points(_FIRES, reached)])

    app.session.connect = connect_counted


class Clock:
    """The clock of this process's machine, as far off as is said."""

    def __init__(self, ahead: float) -> None:
        self._right = time.time
        self._ahead, self._jump = ahead, 0.0
        time.time = self.now

    def now(self) -> float:
        return self._right() + self._ahead + self._jump

    def set(self) -> None:
        self._jump = 600.0 - self._jump


async def main(queues: str, concurrency: int, grace: float, module: ModuleType, clock: Clock) -> None:
    own = {name: getattr(module, name) for name in ("on_expired", "payloads") if hasattr(module, name)}
    app = Jetq(**own)  # nothing more: this also runs with an older version of the package
    kill_at, calls = int(os.environ.get("JETQ_TEST_KILL_AT", "0")), os.environ.get("JETQ_TEST_CALLS")
    if kill_at or calls:
        from jetq.testing import faults  # which an older version of the package does not have

        faults.kill_at(app, kill_at, points=calls)
    if path := os.environ.get("JETQ_TEST_STAMPS"):
        stamp_deliveries(app, path)
    if path := os.environ.get("JETQ_TEST_STOPS"):
        stop_at(app, int(os.environ.get("JETQ_TEST_STOP_AT", "0")), path)
    worker = Worker(app, queues=queues.split(","), concurrency=concurrency, grace=grace)
    loop = asyncio.get_running_loop()
    stops = 0

    def on_signal() -> None:
        nonlocal stops
        stops += 1
        (worker.stop if stops == 1 else worker.kill)()

    loop.add_signal_handler(signal.SIGTERM, on_signal)
    loop.add_signal_handler(signal.SIGUSR1, clock.set)
    await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    tasks = importlib.import_module(sys.argv[4])
    if os.environ.get("JETQ_TEST_IMPATIENT"):
        from jetq.model import oversized
        from jetq.worker import policy

        policy.put_off.__kwdefaults__ = {"patience": 15.0}
        oversized.FIRST_PAUSE, oversized.LAST_PAUSE = 1.0, 4.0
    if turn := os.environ.get("JETQ_TEST_WATCH"):
        from jetq.operations.workflows import watching

        vars(watching).update(FIRST_TURN=float(turn), SLOW_CREATOR=float(turn), NO_PLAN=3 * float(turn))
    if stale := os.environ.get("JETQ_TEST_STALE"):
        from jetq.operations.workflows import firing
        from jetq.worker.workflows import membership

        vars(firing).update(STALE=float(stale))
        vars(membership).update(STALE=float(stale))
    machine = Clock(float(os.environ.get("JETQ_TEST_SKEW", "0")))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until it listens
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), tasks, machine))
