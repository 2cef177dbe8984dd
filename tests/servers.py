"""A nats-server that tests may stop, kill, pause and start again on the same port and store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Protocol

from jetq.server import end, launch

__all__ = ["NatsServer", "NatsServerFactory"]


class NatsServer:
    """A real nats-server in `directory`. Port and store stay the same over `stop`, `kill` and `start`."""

    def __init__(self, directory: Path, *, config: str = "", jetstream: bool = True, port: int = 0) -> None:
        self.directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._config = directory / "nats-server.conf"
        store = f"jetstream {{ store_dir: {json.dumps(str(directory / 'store'))} }}\n" if jetstream else ""
        directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text(store + config, encoding="utf-8")
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server wrote since its last start."""
        return (self.directory / "nats-server.log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it again; returns once it takes connections."""
        if self._process is None:
            self._process, self.port = launch(self._config, self.directory, port=self.port)

    def stop(self) -> None:
        """An orderly shutdown."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            end(self._process)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: what was not written is gone."""
        process = self._running()
        process.kill()
        process.wait()
        end(process)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP, and stopped: it does nothing any more, and its connections stay open."""
        self._running().send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # one of its threads may be at work for a moment

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this server was stopped"
        return self._process


class NatsServerFactory(Protocol):
    """The fixture `nats_server`: starts a server, with lines of configuration, without JetStream, or on a port."""

    def __call__(self, config: str = "", *, jetstream: bool = True, port: int = 0) -> NatsServer: ...
