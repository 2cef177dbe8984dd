"""Lists the source files that a worker has loaded, for the process that starts the worker again when a file changes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["loaded_code", "read_code", "telling_code"]

_LOOK_EVERY = 1.0
"""Seconds between two looks. A module that a task imports while it runs is listed at the next look."""


@contextlib.contextmanager
def telling_code(where: Path | None) -> Iterator[None]:
    """Keep a list of the loaded files in the file `where`, now and as more modules are imported; None does nothing."""
    if where is None:
        yield
        return
    done = threading.Event()
    threading.Thread(target=_keep_told, args=(where, done), name="jetq-code", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def read_code(where: Path) -> dict[Path, int] | None:
    """Return what `telling_code` wrote into `where`: the files, and when each was last changed (ns). None if there is
    no list."""
    try:
        return {Path(each): changed for each, changed in json.loads(where.read_text("utf-8")).items()}
    except (OSError, ValueError):
        return None


def loaded_code() -> set[str]:
    """Return the source files of all loaded modules, without those of Python, of installed distributions, and of
    jetq."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    directories = [*(sysconfig.get_path(kind) for kind in kinds), Path(__file__).parents[2]]
    others = tuple(f"{directory}{os.sep}" for directory in directories)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths = {os.path.abspath(file) for file in files if isinstance(file, str) and file.endswith(".py")}
    return {path for path in paths if not path.startswith(others)}


def _keep_told(where: Path, done: threading.Event) -> None:
    reported: dict[str, int] = {}
    while True:
        if new := loaded_code() - reported.keys():
            for path in new:
                with contextlib.suppress(OSError):  # removed since it was loaded
                    reported[path] = os.stat(path).st_mtime_ns
            beside = where.with_suffix(".new")
            with contextlib.suppress(OSError):  # the directory was removed, so nobody reads the list
                beside.write_text(json.dumps(reported), "utf-8")
                beside.replace(where)
        if done.wait(_LOOK_EVERY):
            return
