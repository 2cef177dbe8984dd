"""A plugin as its author ships it: a distribution that is built, installed and found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-jobs"
version = "2.5"

[project.entry-points."jetq.tasks"]
acme = "acme_jobs"

[tool.hatch.build.targets.wheel]
packages = ["acme_jobs"]
"""

TASKS = """\
from jetq import task


@task(queue="acme")
async def shout(text: str) -> str:
    return text.upper()
"""


def _run(*command: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], env=env, cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_built_and_installed_plugin_brings_its_tasks(nats_url: str, tmp_path: Path) -> None:
    source, site, work = tmp_path / "source", tmp_path / "site", tmp_path / "work"
    (source / "acme_jobs").mkdir(parents=True)
    work.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "acme_jobs" / "__init__.py").write_text(TASKS)
    env = os.environ | {"JETQ_SERVERS": nats_url, "JETQ_NAMESPACE": f"p{os.getpid()}", "PYTHONPATH": str(site)}

    built = _run("pip", "install", "-q", "--no-deps", "--target", str(site), str(source), env=env, cwd=work)
    assert built.returncode == 0, built.stderr

    listed = _run("jetq", "plugins", env=env, cwd=work)
    assert "acme-jobs" in listed.stdout, listed.stderr
    assert "acme_jobs.shout" in listed.stdout

    with subprocess.Popen(
        [sys.executable, "-m", "jetq", "worker", "--plugin", "acme-jobs"], env=env, cwd=work, stderr=subprocess.PIPE
    ) as worker:
        try:
            called = _run("jetq", "call", "acme_jobs.shout", "hello", env=env, cwd=work)
            assert (called.returncode, called.stdout.strip()) == (0, '"HELLO"'), called.stderr
        finally:
            worker.terminate()
            worker.communicate(timeout=20)
    assert worker.returncode == 0
