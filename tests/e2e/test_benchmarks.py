"""The benchmarks run: every case, with tiny counts. What they measure then means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import CASES
from benchmarks.signing import KEYS
from benchmarks.types import KINDS

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_every_case_runs_and_its_ledger_adds_up(tmp_path: Path) -> None:
    figures, charts = tmp_path / "figures.json", tmp_path / "charts"
    tiny = ["--quick", "--rounds", "1", "--scale", "0.005", "--long"]
    command = [sys.executable, "-m", "benchmarks", *tiny, "--json", str(figures), "--charts", str(charts)]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(figures.read_text())
    assert found["failures"] == {}
    assert {name: set(case["measures"]) for name, case in found["cases"].items()} == {
        case.name: {measure.name for measure in case.measures} for case in CASES
    }
    assert {"cpu", "cores", "python", "jetq", "nats-py", "nats-server", "msgspec", "date"} <= set(found["environment"])
    drawn = {"ratios.svg", "enqueue.svg", "drain.svg", "slots.svg", "latency.svg"}
    assert {file.name for file in charts.iterdir()} == drawn


def test_the_cost_of_each_type_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.types", "--rounds", "1", "--count", "10"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(KINDS)


def test_the_cost_of_each_kind_of_signature_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.signing", "--rounds", "1", "--count", "2"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(KEYS)
