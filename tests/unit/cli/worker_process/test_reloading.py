"""Changes of Python files are seen, with watchfiles and without, and nothing else is."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetq.cli.worker_process import reloading
from jetq.cli.worker_process.loaded_code import loaded_code


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


class Code:
    """A project, code elsewhere, and what a worker tells that it has loaded."""

    def __init__(self, directory: Path) -> None:
        self.told = directory / "loaded.json"
        self.project, self.elsewhere = directory / "project", directory / "elsewhere"
        self.project.mkdir()
        self.elsewhere.mkdir()
        for path in (self.project / "a.py", self.project / "beside.py", self.elsewhere / "b.py"):
            path.write_text("1")
        self.changes = reloading.changes_of_code(self.told, [self.project])

    def tell(self, *paths: Path) -> None:
        self.told.write_text(json.dumps({str(path): path.stat().st_mtime_ns for path in paths}))

    def touch(self, path: Path) -> None:
        stamp = path.stat().st_mtime_ns + 1_000_000_000
        os.utime(path, ns=(stamp, stamp))


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Code:
    monkeypatch.setattr(reloading, "_POLL", 0.0)
    monkeypatch.setattr(reloading, "_TICK", 0.01)
    return Code(tmp_path)


def test_of_loaded_code_only_what_is_loaded_is_seen_also_elsewhere(code: Code) -> None:
    code.tell(code.project / "a.py", code.elsewhere / "b.py")
    code.touch(code.elsewhere / "b.py")  # before anybody looked
    assert next_change(code.changes) == {"b.py"}
    code.touch(code.project / "beside.py")
    (code.project / "new.py").write_text("1")
    code.touch(code.project / "a.py")
    assert next_change(code.changes) == {"a.py"}


def test_what_is_loaded_later_is_seen_from_then_on(code: Code) -> None:
    code.tell(code.project / "a.py")
    assert next(code.changes) == []
    code.tell(code.project / "a.py", code.project / "beside.py")
    assert next(code.changes) == []
    code.touch(code.project / "beside.py")
    assert next_change(code.changes) == {"beside.py"}


def test_while_nothing_can_be_loaded_whatever_changes_is_seen(code: Code) -> None:
    code.tell(code.elsewhere / "b.py")
    assert next(code.changes) == []
    code.told.unlink()
    assert next(code.changes) == []
    (code.project / "missing.py").write_text("1")
    assert next_change(code.changes) == {"missing.py"}
    code.touch(code.elsewhere / "b.py")
    assert next_change(code.changes) == {"b.py"}
    code.tell(code.project / "missing.py")
    assert next(code.changes) == []


def test_loaded_code_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_code.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own_code")
    loaded = loaded_code()
    assert str(tmp_path / "own_code.py") in loaded
    assert __file__ in loaded
    for module in (json, pytest, reloading):
        assert module.__file__ not in loaded
