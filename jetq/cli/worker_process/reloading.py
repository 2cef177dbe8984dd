"""Waits for changes of Python files: with watchfiles if it is installed, else by looking twice a second."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from jetq.cli.worker_process.loaded_code import read_code

__all__ = ["changes", "changes_of_code"]

_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist"}
_TICK = 0.25
_POLL = 0.5


def changes(root: Path) -> Iterator[list[Path]]:
    """Yield the Python files below `root` that changed, whenever some did; an empty list several times a second
    otherwise."""
    return _watched(root) if importlib.util.find_spec("watchfiles") else _polled(root)


def changes_of_code(listing: Path, roots: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield changed files as `changes` does, of the files that a worker has loaded, wherever they are.

    The worker lists them in the file `listing`. While there is no list, because the code could not be imported, all
    Python files below `roots` count too.
    """
    before: dict[Path, int] = {}
    everything, looked = False, time.monotonic()
    while True:
        time.sleep(_TICK)
        if time.monotonic() - looked < _POLL:
            yield []
            continue
        loaded, looked = read_code(listing), time.monotonic()
        before = {**(loaded or {}), **before}
        now = _times_of(before if loaded is None else loaded)
        for root in roots if loaded is None else ():
            now |= _times(root)
        looked_for = now.keys() | before.keys() if everything and loaded is None else before.keys() & (loaded or before)
        changed = [path for path in looked_for if now.get(path) != before.get(path)]
        before, everything = now, loaded is None
        yield sorted(changed)


def _times_of(files: Iterable[Path]) -> dict[Path, int]:
    found: dict[Path, int] = {}
    for path in files:
        with suppress(OSError):
            found[path] = path.stat().st_mtime_ns
    return found


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
                    continue  # removed since the directory was read
    return found


def _is_ours(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    hidden = any(part in _SKIPPED or part.startswith(".") for part in parts[:-1])
    return path.suffix == ".py" and not hidden and not parts[-1].startswith(".")
