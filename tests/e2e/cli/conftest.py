"""Projects for the tests of the command line."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

import pytest

from tests.e2e.cli.commands import TASKS
from tests.e2e.project import Project


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    """A directory with `tasks.py`, whose commands work in a namespace of their own on the shared server."""
    made = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"cli-{token_hex(4)}")
    made.write("tasks.py", TASKS)
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A directory with `tasks.py`, and nothing that says where a server is."""
    made = Project(tmp_path)
    made.write("tasks.py", TASKS)
    return made
