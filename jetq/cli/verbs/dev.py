"""`jetq dev`: runs a local server, and a worker that starts again when the code changes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from jetq.cli.app_option import LOCAL
from jetq.cli.exit import BROKER, USAGE, Failed, is_verbose, verbose_option
from jetq.cli.worker_process.reloading import changes_of_code
from jetq.client.settings_sources import load_settings
from jetq.server import LocalServer, PortTaken, dies_with_parent
from jetq.worker.process.supervisor import counted_signals

__all__ = ["dev"]

_LOADED = LOCAL / "loaded.json"
"""The file in which the worker lists the files that it has loaded."""

_GRACE = 5.0
"""Seconds that running jobs get when the code has changed or the developer stops the command."""

_RESTART = 1.0
"""Seconds before a worker that a job has killed starts again."""


@click.command()
@click.argument("app", metavar="FILE_OR_MODULE")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port of the local server. By default 4222, or a free port if 4222 is taken.",
)
@verbose_option
def dev(app: str, port: int | None) -> None:
    """Develop with one command: a local server under .jetq, a worker for FILE_OR_MODULE, and reload.

    The worker starts anew when a Python file that it has loaded changes, wherever that is. Commands run in this
    directory find the server. Ctrl-C stops both. Options of the worker are given as variables, for example
    JETQ_WORKER_CONCURRENCY.
    """
    with _server(port) as server, counted_signals() as interrupts:
        click.echo(f"nats-server on {server.url}, data in {LOCAL}")
        if load_settings({}).servers != (server.url,):
            click.echo(f"for programs of your own: export NATS_URL={server.url}")
        worker = _Worker(app, server.url)
        try:
            for changed in changes_of_code(_LOADED, _roots(app)):
                if interrupts():
                    break
                if not server.running:
                    raise Failed("nats-server has ended", hint=f"see {LOCAL / 'nats-server.log'}", code=BROKER)
                if changed:
                    names = ", ".join(path.name for path in changed[:3])
                    click.echo(f"{names} changed: starting the worker anew")
                    worker.stop(interrupts)
                worker.keep_running(changed=bool(changed))
        finally:
            worker.stop(interrupts)


def _roots(app: str) -> list[Path]:
    """Return the directories that may hold the mistake because of which `app` cannot be imported."""
    here, file = Path.cwd(), Path(app.partition(":")[0])
    return [here] if not file.is_file() or file.resolve().is_relative_to(here) else [here, file.resolve().parent]


class _Worker:
    """The worker's process. It is started again after a crash, but not while its code cannot be imported."""

    def __init__(self, app: str, url: str) -> None:
        verbose = ["-v"] if is_verbose() else []
        self._command = [sys.executable, "-m", "jetq", "worker", app, *verbose]
        self._command += ["--grace", str(_GRACE), "--show-example", "--tell-code", str(_LOADED)]
        self._environment = {**os.environ, "JETQ_SERVERS": url, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_at = 0.0
        self._waiting = False
        self._start()

    def keep_running(self, *, changed: bool) -> None:
        """Start the process again if it should run and does not."""
        if self._process is not None and self._process.poll() is not None:
            self._waiting = self._process.returncode == USAGE
            self._ended_at = time.monotonic()
            self._process = None
            click.echo("waiting for a change of the code" if self._waiting else "the worker ended; starting it again")
        if changed:
            self._waiting = False
        if self._process is None and not self._waiting and (changed or time.monotonic() - self._ended_at > _RESTART):
            self._start()

    def stop(self, interrupts: Callable[[], int]) -> None:
        """End the process in order, and pass on each further interrupt of the developer."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        seen = interrupts()
        deadline = time.monotonic() + _GRACE + 20.0
        while process.poll() is None:
            if interrupts() > max(seen, 1):
                seen = interrupts()
                process.terminate()
            if time.monotonic() > deadline:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)

    def _start(self) -> None:
        _LOADED.unlink(missing_ok=True)
        # With a session of its own for the worker, a Ctrl-C reaches only this command, which passes it on once.
        self._process = subprocess.Popen(
            [*dies_with_parent(), *self._command], env=self._environment, start_new_session=True
        )


@contextlib.contextmanager
def _server(port: int | None) -> Iterator[LocalServer]:
    server = LocalServer(LOCAL, port=4222 if port is None else port)
    try:
        server.start()
    except PortTaken:
        if port is not None:
            raise
        server = LocalServer(LOCAL, port=0)
        server.start()
    try:
        yield server
    finally:
        server.stop()
