"""What documents and docstrings name as the test of a promise is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [
    *ROOT.glob("*.md"),
    *sorted((ROOT / "benchmarks").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "jetq").rglob("*.py")),
]
NAMED = re.compile(r"`?(tests/[\w/]+(?:\.py)?/?)(?:::(\w+))?")


@pytest.mark.parametrize("page", [page for page in PAGES if "tests/" in page.read_text()], ids=lambda page: page.name)
def test_it_is_there(page: Path) -> None:
    missing = []
    for path, function in NAMED.findall(page.read_text()):
        file = ROOT / path
        if not file.exists() or (function and function not in _functions(file)):
            missing.append(f"{path}::{function}")
    assert missing == []


@pytest.mark.parametrize("page", ["faults.md", "guarantees.md"])
def test_each_row_has_its_test_or_says_that_it_is_a_limit(page: str) -> None:
    text = (ROOT / "docs/explanation" / page).read_text()
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and not re.match(r"\| (what happens|promise)", line)
    ]
    assert len(rows) > 15
    assert [row for row in rows if "`tests/" not in row and "`make faults`" not in row and "**limit**" not in row] == []


def _functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


PROMISES = {
    "1 `.delay` returns when it is stored": "client/task.py:_Enqueuer.delay",
    "2 a job leaves its queue in one of four ways": "worker/attempts/settlement.py:Settlement.settle",
    "3 no second delivery while its worker lives": "worker/leases.py:Leases",
    "4 killers are dead after `max_crashes`": "worker/policy.py:crashed",
    "5 what is bad is kept": "worker/attempts/loading.py:Loader.load",
    "6 retries": "worker/policy.py:RetryPolicy",
    "7 shutdown": "worker/worker.py:Worker.run",
    "8 after the broker's return work goes on": "jetstream/transport/connection.py:Connection",
    "9 memory": "worker/intake.py:Intake",
}


@pytest.mark.parametrize("place", PROMISES.values(), ids=PROMISES.keys())
def test_each_promise_names_its_test_where_it_is_kept(place: str) -> None:
    path, _, name = place.partition(":")
    node: ast.AST = ast.parse((ROOT / "jetq" / path).read_text())
    for part in name.split("."):
        node = next(each for each in ast.iter_child_nodes(node) if getattr(each, "name", "") == part)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    assert "Guarantee: tests/" in (ast.get_docstring(node) or "")
