"""The applications under docs/examples: their own tests pass, and both type checkers are content with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(params=["fastapi_shop", "notify", "workflows"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / request.param, tmp_path / request.param))


def run(*words: str, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JETQ_", "NATS_"))}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_own_tests_pass(example: Path) -> None:
    run("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=example)


def test_mypy_is_content_with_it(example: Path) -> None:
    cache = f"--cache-dir={ROOT / '.mypy_cache'}"
    run(
        "mypy",
        "--strict",
        "--config-file=",
        "--follow-imports=silent",
        "--python-version=3.11",
        cache,
        ".",
        cwd=example,
    )


@pytest.mark.timeout(300)  # on a busy machine; its first run unpacks it too
def test_pyright_is_content_with_it(example: Path) -> None:
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (example / "pyrightconfig.json").write_text(json.dumps(settings))
    run("pyright", "--pythonpath", sys.executable, ".", cwd=example)
