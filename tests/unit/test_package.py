"""`import jetq`: what it loads, where it is refused, and which names it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jetq


def test_importing_jetq_is_light_and_touches_nothing() -> None:
    code = (
        "import sys, threading, jetq\n"
        "@jetq.task\n"
        "def f(x: int) -> None: ...\n"
        "app = jetq.Jetq()\n"
        "f.bind(1)\n"
        "heavy = [m for m in sys.modules if m.split('.')[0] in ('nats', 'click', 'rich')]\n"
        "print(heavy, threading.active_count())\n"
    )
    root = Path(jetq.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"


@pytest.mark.parametrize(("locked", "error"), [("False", "PYTHON_GIL=1"), ("True", "")])
def test_a_free_threaded_python_without_its_lock_is_refused(locked: str, error: str) -> None:
    code = f"import sys; sys._is_gil_enabled = lambda: {locked}; import jetq"
    root = Path(jetq.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode != 0) is bool(error) and error in done.stderr


def test_every_public_name_is_there() -> None:
    assert sorted(jetq.__all__) == sorted(set(jetq.__all__))
    for name in jetq.__all__:
        assert getattr(jetq, name).__doc__
