"""The types of tasks, calls and jobs, held against both checkers over a sample of right and wrong uses.

The sample is no .py file, so that nobody else checks it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).with_name("calls.py.sample")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    copy = tmp_path / "calls.py"
    copy.write_text(SAMPLE.read_text("utf-8"), "utf-8")
    return copy


def marked() -> set[int]:
    lines = SAMPLE.read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # error")}


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 1, f"{command} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compare(reported: dict[int, str]) -> None:
    missed = {number for number in marked() if number not in reported}
    unexpected = {number: text for number, text in reported.items() if number not in marked()}
    assert not missed, "not reported"
    assert not unexpected, "reported"


def test_mypy_accepts_and_rejects_as_marked(sample: Path) -> None:
    output = run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "--no-pretty"),
        *("--python-version=3.11", f"--cache-dir={ROOT / '.mypy_cache'}", sample.name),
        cwd=sample.parent,
        MYPYPATH=str(ROOT),
    )
    errors = re.findall(rf"^{sample.name}:(\d+): error: (.*)$", output, re.MULTILINE)
    compare({int(number): text for number, text in errors})


@pytest.mark.timeout(300)  # on a busy machine; its first run unpacks it too
def test_pyright_accepts_and_rejects_as_marked(sample: Path) -> None:
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT)],
        "reportUnusedVariable": False,
        "reportUnusedCoroutine": True,
    }
    (sample.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    output = run(
        *(sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, sample.name),
        cwd=sample.parent,
    )
    reports = json.loads(output)["generalDiagnostics"]
    compare({each["range"]["start"]["line"] + 1: each["message"] for each in reports if each["severity"] == "error"})
