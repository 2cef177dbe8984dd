"""An app under test whose jobs are those of `tests.unit.testing.tasks`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import jetq.client.app as app_module
from jetq.client.default_app import DefaultApp
from jetq.testing import AppTester, in_memory
from tests.unit.testing.tasks import RAN


@pytest.fixture(autouse=True)
def no_app_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: no app was made, and what a test makes is gone after it."""
    monkeypatch.setattr(app_module, "_default", DefaultApp(app_module.Jetq))


@pytest.fixture
def jobs() -> Iterator[AppTester]:
    RAN.clear()
    with in_memory() as tester:
        yield tester
