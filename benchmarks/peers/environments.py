"""A virtual environment per peer, made once and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_WITHIN = 600.0
"""Seconds that pip may take for one peer."""

_VERSIONS = """
import importlib.metadata, json, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class NotInstalled(Exception):
    """A peer has no environment; the text says why, in one line."""


def interpreter(directory: Path, name: str, packages: Sequence[str]) -> Path:
    """The Python that has `packages`: this one if there are none, else that of `directory`/`name`, made if need be.

    An environment is kept until its list of packages changes or somebody removes it. Raises NotInstalled.
    """
    if not packages:
        return Path(sys.executable)
    home = directory / name
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = home / "packages"
    wanted = "\n".join(packages) + "\n"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    stamp.write_text(wanted)
    return python


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """The installed version of each of `names`."""
    said = subprocess.run([python, "-c", _VERSIONS, *names], capture_output=True, text=True, check=True, timeout=60.0)
    found: dict[str, str] = json.loads(said.stdout)
    return found


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_WITHIN)
    except subprocess.CalledProcessError as error:
        errors = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalled("; ".join(errors) or f"exit code {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed within {INSTALL_WITHIN:g} s") from None
