"""Changes of Python files are seen, with watchfiles and without, and nothing else is."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetq.cli import reloading


@pytest.fixture(params=["watchfiles", "polling"])
def seen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """What changes below the directory, from now on."""
    if request.param == "polling":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(reloading, "_POLL", 0.0)
        monkeypatch.setattr(reloading, "_TICK", 0.01)
    (tmp_path / "a.py").write_text("1")
    for directory in ("package", "package/sub", ".venv", "__pycache__", "site-packages"):
        (tmp_path / directory).mkdir()
    found = reloading.changes(tmp_path)
    assert next(found) == []  # from the first tick on it watches
    return found


def next_change(seen: Iterator[list[Path]]) -> set[str]:
    deadline = time.monotonic() + 10
    for changed in seen:
        if changed:
            return {path.name for path in changed}
        assert time.monotonic() < deadline, "the change was not seen"
    raise AssertionError("the watch has ended")


def test_a_changed_a_new_and_a_removed_file_are_seen(seen: Iterator[list[Path]], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("2")
    os.utime(tmp_path / "a.py", ns=(1, 1))  # however coarse the file system's clock is
    assert next_change(seen) == {"a.py"}
    (tmp_path / "package" / "sub" / "b.py").write_text("1")
    assert next_change(seen) == {"b.py"}
    (tmp_path / "a.py").unlink()
    assert next_change(seen) == {"a.py"}


def test_other_files_and_other_peoples_code_are_not(seen: Iterator[list[Path]], tmp_path: Path) -> None:
    for name in (".venv/c.py", "__pycache__/c.py", "site-packages/c.py", "notes.txt", ".hidden.py"):
        (tmp_path / name).write_text("1")
    (tmp_path / "package" / "last.py").write_text("1")
    assert next_change(seen) == {"last.py"}
