"""An app under test whose jobs are those of `tests.unit.testing.tasks`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jetq.testing import AppTester, in_memory
from tests.apps.fresh import no_app_yet
from tests.unit.testing.tasks import RAN


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: no app was made, and what a test makes is gone after it."""
    no_app_yet(monkeypatch)


@pytest.fixture
def jobs() -> Iterator[AppTester]:
    RAN.clear()
    with in_memory() as tester:
        yield tester
