"""The fixtures of jetq's pytest plugin, in a project of a user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

USERS_TESTS = """
import pytest
from jetq import Jetq, Retry, task

@task(wait=0)
async def add(x: int, y: int) -> int:
    return x + y

@task(wait=0, max_attempts=2, result_ttl=60)
def fail() -> None:
    raise KeyError("k")

def test_in_memory(jetq_app):
    job = add.delay(2, 3)
    jetq_app.assert_enqueued(add, x=2)
    assert jetq_app.run_until_empty().succeeded == 1
    assert job.result(timeout=1) == 5

def test_in_memory_again(jetq_app):
    assert jetq_app.enqueued() == []

@pytest.mark.anyio
async def test_in_memory_async(jetq_app):
    job = await add.adelay(2, 3)
    assert (await jetq_app.arun_until_empty()).succeeded == 1
    assert await job.aresult(timeout=1) == 5

def test_on_a_real_server(jetq_app_real):
    job, bad = add.delay(2, 3), fail.delay()
    ran = jetq_app_real.run_until_empty()
    assert (ran.succeeded, ran.retried, ran.dead) == (1, 1, 1), ran
    assert job.result(timeout=5) == 5
    with pytest.raises(KeyError):
        bad.result(timeout=5)
    assert [letter.id for letter in jetq_app_real.dead_letters()] == [bad.id]

@pytest.mark.anyio
async def test_on_a_real_server_async(jetq_app_real):
    assert await jetq_app_real.adead_letters() == []
    job = await add.adelay(2, 3)
    assert (await jetq_app_real.arun_until_empty()).succeeded == 1
    assert await job.aresult(timeout=5) == 5

def test_the_url(jetq_server):
    assert jetq_server.url.startswith("nats://127.0.0.1:")

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_the_fixtures_in_a_users_project(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    root = str(Path(__file__).parents[3])
    plugins = ["-p", "jetq.testing.plugin", "-p", "anyio"]

    ended = subprocess.run(
        # Should a test hang, the output of a run that fails says where.
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-o",
            "faulthandler_timeout=30",
            "-o",
            "faulthandler_exit_on_timeout=true",
            *plugins,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "6 passed" in ended.stdout


def test_a_run_without_the_fixtures_does_not_import_nats() -> None:
    code = "import sys, jetq.testing.plugin; print('nats' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)

    assert ended.stdout.strip() == "False"
