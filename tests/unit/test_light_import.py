"""What `import jetq` loads: a process that only enqueues pays for nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import jetq

MOST = 40
"""Modules of jetq that its import loads."""


def loaded_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded when it has run `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    root = Path(jetq.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout))


def parts(modules: set[str]) -> set[str]:
    return {".".join(name.split(".")[:2]) for name in modules if name.split(".")[0] == "jetq"}


def test_the_import_loads_few_modules_and_nothing_of_workers_and_brokers() -> None:
    modules = loaded_after("import jetq")
    assert len([name for name in modules if name.split(".")[0] == "jetq"]) <= MOST
    assert parts(modules) == {
        "jetq", "jetq.client", "jetq.encoding", "jetq.errors", "jetq.migration_hints", "jetq.model", "jetq.runtime",
        "jetq.units",
    }  # fmt: skip
    assert not modules & {"nats", "tenacity"}


def test_who_makes_calls_loads_nothing_of_workers_and_operations() -> None:
    code = "import jetq\n@jetq.task\ndef add(x: int) -> int: ...\njetq.Jetq()\nadd.bind(1).request(0.0)"
    assert not parts(loaded_after(code)) & {"jetq.worker", "jetq.operations", "jetq.broker"}


@pytest.mark.parametrize("name", jetq.__all__)
def test_every_public_name_is_there_when_it_is_asked_for(name: str) -> None:
    assert hasattr(jetq, name)
    assert name in dir(jetq)
