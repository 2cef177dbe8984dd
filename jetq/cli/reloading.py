"""Waiting for changes of Python files: by watchfiles where it is installed, else by looking twice a second."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["changes"]

_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist"}
_TICK = 0.25
_POLL = 0.5


def changes(root: Path) -> Iterator[list[Path]]:
    """Python files below `root` that changed, whenever some did; an empty list several times a second otherwise."""
    return _watched(root) if importlib.util.find_spec("watchfiles") else _polled(root)


def _watched(root: Path) -> Iterator[list[Path]]:
    import watchfiles

    found = watchfiles.watch(
        root,
        watch_filter=lambda _, path: _is_ours(Path(path), root),
        rust_timeout=int(_TICK * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for changed in found:
        yield sorted({Path(path) for _, path in changed})


def _polled(root: Path) -> Iterator[list[Path]]:
    before, looked = _times(root), time.monotonic()
    while True:
        time.sleep(_TICK)
        if time.monotonic() - looked < _POLL:
            yield []
            continue
        now, looked = _times(root), time.monotonic()
        changed = [path for path in now.keys() | before.keys() if now.get(path) != before.get(path)]
        before = now
        yield sorted(changed)


def _times(root: Path) -> dict[Path, int]:
    found: dict[Path, int] = {}
    for directory, below, files in os.walk(root):
        below[:] = [name for name in below if name not in _SKIPPED and not name.startswith(".")]
        for name in files:
            if name.endswith(".py") and not name.startswith("."):
                path = Path(directory, name)
                try:
                    found[path] = path.stat().st_mtime_ns
                except FileNotFoundError:
                    continue  # gone since the directory was read
    return found


def _is_ours(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    hidden = any(part in _SKIPPED or part.startswith(".") for part in parts[:-1])
    return path.suffix == ".py" and not hidden and not parts[-1].startswith(".")
