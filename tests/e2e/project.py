"""A directory with a developer's code in it, and the `jetq` command run there as a process of its own."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Process", "Project"]

ROOT = Path(__file__).parents[2]
JETQ = [sys.executable, "-m", "jetq"]


class Process:
    """A running command, its two outputs read together line by line."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.output: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, text: str, timeout: float = 20.0) -> str:
        """The next line that contains `text`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no {text!r} in:\n" + "\n".join(self.output)
            self.output.append(line)
            if text in line:
                return line

    def said(self) -> list[str]:
        """All that it has printed until now."""
        while not self._lines.empty():
            if (line := self._lines.get()) is not None:
                self.output.append(line)
        return self.output

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def end(self, timeout: float = 20.0) -> int:
        """Its exit code, once it has ended; `output` is complete then."""
        code = self.popen.wait(timeout)
        self._reader.join(timeout)
        self.said()
        return code


class Project:
    """`directory` and the environment its commands run in."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JETQ_", "NATS_"))}
        self.environment = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def jetq(self, *words: str, timeout: float = 30.0, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """`jetq WORDS` run to its end."""
        return subprocess.run(
            [*JETQ, *words],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            input=input,
        )

    @contextmanager
    def running(self, *words: str) -> Iterator[Process]:
        """`jetq WORDS` in the background, killed at the end if it still runs."""
        popen = subprocess.Popen(
            [*JETQ, *words],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with popen:
            process = Process(popen)
            try:
                yield process
            finally:
                if popen.poll() is None:
                    popen.kill()
                process.end()
