"""`jetq worker --health`: what is answered, while all is well and while it is not."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jetq.cli.worker_process.health import answering
from jetq.worker.process.health import DEAD_AFTER, SILENT_AFTER, Health
from tests.apps.workers import ROOT
from tests.servers import NatsServer, NatsServerFactory

TASKS = """
import time
from jetq import task

@task
async def blocks(seconds: float) -> None:
    time.sleep(seconds)
"""


def ask(port: int, path: str = "/ready", method: str = "GET") -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        client.close()


def until(condition: Callable[[], bool], what: str, timeout: float = 40.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


# --- the answers


def test_what_is_answered() -> None:
    health = Health()
    with answering("127.0.0.1", 0, health) as port:
        assert ask(port, "/live") == (200, "ok\n")
        assert ask(port, "/ready") == (503, "starting\n")
        health.report(None)
        assert ask(port, "/ready?probe=1") == (200, "ok\n")
        status, body = ask(port, "/health")
        assert (status, json.loads(body)) == (200, {"live": True, "ready": True, "reason": None})
        health.report("stopping")
        status, body = ask(port, "/health")
        assert (status, json.loads(body)) == (503, {"live": True, "ready": False, "reason": "stopping"})
        assert ask(port, "/live", "HEAD") == (200, "")
        assert ask(port, "/live", "POST")[0] == 405
        assert ask(port, "/")[0] == 404


def test_a_loop_that_does_not_turn_is_not_ready_and_then_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    health, now = Health(), time.monotonic()
    health.report(None)
    for silent, dead, unready in [(1, False, False), (SILENT_AFTER + 1, False, True), (DEAD_AFTER + 1, True, True)]:
        monkeypatch.setattr("jetq.worker.process.health.time.monotonic", lambda silent=silent: now + silent)
        assert (health.liveness_problem() is not None, health.readiness_problem() is not None) == (dead, unready)


def test_clients_that_say_nothing_keep_nobody_waiting() -> None:
    health = Health()
    with answering("127.0.0.1", 0, health) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        assert ask(port, "/live") == (200, "ok\n")
        for each in idle:
            each.close()


# --- workers


@contextmanager
def worker(server: NatsServer, tmp_path: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "blocking.py").write_text(TASKS)
    words = [sys.executable, "-m", "jetq", "worker", "blocking", "--no-plugins", "--health", str(port), *options]
    environment = os.environ | {"JETQ_SERVERS": server.url, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        yield process
    except BaseException as error:
        error.add_note((tmp_path / "log").read_text()[-4000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


@pytest.mark.slow
def test_a_worker_is_ready_while_it_can_be_given_jobs_and_lives_through_an_outage(
    nats_server: NatsServerFactory, tmp_path: Path, free_tcp_port: int
) -> None:
    server = nats_server()
    with worker(server, tmp_path, free_tcp_port) as process:
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready at first")
        server.kill()
        until(lambda: ask(free_tcp_port)[0] == 503, "not ready without the server")
        assert "no connection" in ask(free_tcp_port)[1]
        assert ask(free_tcp_port, "/live") == (200, "ok\n")
        server.start()
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready again")
        server.pause()
        until(lambda: ask(free_tcp_port)[0] == 503, "not ready while the server is paused")
        server.resume()
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready after the pause")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.slow
def test_an_answer_comes_while_the_loop_is_blocked(
    nats_server: NatsServerFactory, tmp_path: Path, free_tcp_port: int
) -> None:
    server = nats_server()
    with worker(server, tmp_path, free_tcp_port):
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready at first")
        call = [sys.executable, "-m", "jetq", "call", "blocking.blocks", str(SILENT_AFTER + 4), "--no-wait"]
        environment = os.environ | {"JETQ_SERVERS": server.url, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        subprocess.run(call, env=environment, cwd=tmp_path, check=True, capture_output=True)
        until(lambda: "blocked" in ask(free_tcp_port)[1], "not ready while blocked")
        assert ask(free_tcp_port, "/live") == (200, "ok\n")
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready again")


@pytest.mark.slow
def test_several_processes_answer_together(nats_server: NatsServerFactory, tmp_path: Path, free_tcp_port: int) -> None:
    server = nats_server()
    with worker(server, tmp_path, free_tcp_port, "--processes", "2") as process:
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready at first")
        server.kill()
        until(lambda: ask(free_tcp_port) == (503, "no worker process takes jobs\n"), "not ready without the server")
        assert ask(free_tcp_port, "/live") == (200, "ok\n")
        server.start()
        until(lambda: ask(free_tcp_port) == (200, "ok\n"), "ready again")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_port_that_is_taken_is_said(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with worker(server, tmp_path, port) as process:
            assert process.wait(30) == 2
    log = (tmp_path / "log").read_text()
    assert f"cannot answer on 127.0.0.1:{port}" in log
    assert "Traceback" not in log
