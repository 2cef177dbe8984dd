"""A process that stores a workflow: `python -m tests.apps.flow_producer WORK ID`, with WORK of `tests.apps.flow_tasks`.

With JETQ_TEST_KILL_AT and JETQ_TEST_CALLS it counts its calls as `tests.apps.run_worker` does. JETQ_TEST_WATCH says
after how many seconds the watch takes its first turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from jetq import Jetq
from jetq.broker import Broker
from jetq.operations.workflows import creating
from jetq.testing.faulty import Points, faulty
from tests.apps.flow_tasks import WORKS

_VERBS = ("enqueue", "enqueue_many", "write_entry", "write_entries")
"""The verbs by which a workflow is created."""


async def main(work: str, id: str) -> None:
    app = Jetq()
    connect = app.session.connect

    async def connect_counted(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [Points(_VERBS, _reached)])

    app.session.connect = connect_counted
    await WORKS[work].work().adelay(id=id)
    await app.session.aclose()


def _reached(count: int, where: str) -> None:
    if path := os.environ.get("JETQ_TEST_CALLS"):
        with open(path, "a") as calls:
            calls.write(f"{count} {where}\n")
    if count == int(os.environ.get("JETQ_TEST_KILL_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    creating.FIRST_TURN = float(os.environ["JETQ_TEST_WATCH"])
    asyncio.run(main(sys.argv[1], sys.argv[2]))
