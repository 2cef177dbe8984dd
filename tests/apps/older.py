"""Older versions of the package, beside this one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.apps.harness import Harness
from tests.apps.workers import ROOT

__all__ = ["OLD", "build", "path_of", "run_python"]

OLD = {"before-sealing": "3dfc16b552", "before-packages": "2441516"}
"""The commits the older packages are built from: the last ones before secrets and sealed payloads, and before the
modules moved into packages. The first one does not put off what is newer yet."""


def build(commit: str, work: Path) -> Path:
    """Build the package of `commit` as a wheel in `work`, and return the directory in which it is installed, without
    its dependencies: those are here. Skips the test in a checkout without that commit."""
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"commit {commit} is not in this checkout")
    subprocess.run(["git", "archive", "-o", work / "source.tar", commit], cwd=ROOT, check=True)
    with tarfile.open(work / "source.tar") as source:
        source.extractall(work / "source", filter="data")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", work / "wheels", work / "source"], check=True)
    (wheel,) = (work / "wheels").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", work / "site", wheel], check=True)
    return work / "site"


def path_of(old: Path) -> str:
    """Return the PYTHONPATH of a process with the older package in `old`, and with the tests of this checkout."""
    return f"{old}{os.pathsep}{ROOT}"


async def run_python(h: Harness, path: str, *arguments: str, code: int = 0) -> str:
    """Run Python beside the harness, and return what it prints: to stderr, if it is to end with another code than
    0. path: its PYTHONPATH."""
    environment = os.environ | {
        "JETQ_SERVERS": h.url,
        "JETQ_TEST_LEDGER": str(h.ledger.path),
        "PYTHONPATH": path,
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *arguments],
        env=environment,
        cwd=h.ledger.path.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout
