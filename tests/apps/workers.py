"""Worker processes that tests start, stop, kill and pause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.apps.ledger import Ledger

ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """One `tests.apps.run_worker` process of `queue`, with the tasks that `modules` define."""

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        *,
        concurrency: int = 10,
        grace: float = 25.0,
        ack_wait: float = 30.0,
        env: dict[str, str] | None = None,
        queue: str = "ledger",
        modules: str = "tests.apps.ledger_tasks",
    ) -> None:
        self.log = ledger.path.with_name(f"worker-{os.urandom(3).hex()}.log")
        environment = os.environ | {
            "JETQ_SERVERS": url,
            "JETQ_ACK_WAIT": str(ack_wait),
            "JETQ_TEST_LEDGER": str(ledger.path),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.apps.run_worker", queue, str(concurrency), str(grace), modules],
                env=environment | (env or {}),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ledger.path.parent,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """The first signal: an orderly end."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.process.kill()
        self.process.wait()

    def wait(self, timeout: float = 30.0) -> int:
        return self.process.wait(timeout)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        if error is not None:
            error.add_note(f"--- the log of worker {self.pid}, its end\n{self.log.read_text()[-4000:]}")
