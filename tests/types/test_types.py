"""The types of tasks, calls, jobs and workflows, held against both checkers over samples of right and wrong uses.

The samples are no .py files, so that nobody else checks them.
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
SAMPLES = sorted(Path(__file__).parent.glob("*.py.sample"))


@pytest.fixture(params=SAMPLES, ids=lambda path: path.stem)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    original: Path = request.param
    copy = tmp_path / original.stem
    copy.write_text(original.read_text("utf-8"), "utf-8")
    return copy


def marked(sample: Path) -> set[int]:
    lines = sample.read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # error")}


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 1, f"{command} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compare(sample: Path, reported: dict[int, str]) -> None:
    missed = {number for number in marked(sample) if number not in reported}
    unexpected = {number: text for number, text in reported.items() if number not in marked(sample)}
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
    compare(sample, {int(number): text for number, text in errors})


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
    errors = [each for each in reports if each["severity"] == "error"]
    compare(sample, {each["range"]["start"]["line"] + 1: each["message"] for each in errors})
