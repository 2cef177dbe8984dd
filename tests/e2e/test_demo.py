"""The demo that the README promises, with fewer mails."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

DEMO = Path(__file__).parents[2] / "docs" / "examples" / "mail_demo"


def test_the_demo_accounts_for_every_mail(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO / "run.py"), "--mails", "60", "--directory", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "own ledger has every mail, each once" in done.stdout
    assert "550 5.1.1 (no such mailbox)" in done.stdout
    assert len(list((tmp_path / "demo" / "mails").glob("*.eml"))) == 60


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO))
    return importlib.import_module("run")


def test_a_lost_or_doubled_mail_is_told(run: Any, tmp_path: Path) -> None:
    everybody = ["a@example.com", "b@example.com", run.GONE]

    def ledger(**delivered: int) -> Any:
        counts = Counter({f"{name}@example.com": times for name, times in delivered.items()})
        for n in range(sum(counts.values())):
            (tmp_path / f"{n}.eml").touch()
        return SimpleNamespace(
            delivered=counts,
            put_off=Counter({"a@example.com": 1}),
            refused=Counter({run.GONE: 1}),
            mails=sum(counts.values()),
            directory=tmp_path,
            ended=0,
        )

    assert run.faults(everybody, {"a@example.com"}, ledger(a=1, b=1, gone=1)) == []
    assert run.faults(everybody, {"a@example.com"}, ledger(a=1, b=0, gone=1))[0] == "b@example.com: 0 mails"
    for file in tmp_path.glob("*.eml"):
        file.unlink()
    assert run.faults(everybody, {"a@example.com"}, ledger(a=1, b=2, gone=1)) == ["b@example.com: 2 mails"]
