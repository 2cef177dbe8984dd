"""As in a new process: a test has no task and no app of other tests, and leaves none."""

from __future__ import annotations

import pytest

from jetq.client import app as app_module
from jetq.client.default_app import DefaultApp
from jetq.client.registry import IMPORTED


def own_tasks(monkeypatch: pytest.MonkeyPatch, *, and_those_of_others: bool = False) -> None:
    """Forget after the test what it defines by `@task`; in the test also all that others have defined."""
    monkeypatch.setattr(IMPORTED, "_tasks", dict(IMPORTED) if and_those_of_others else {})


def no_app_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next app that is made be the first one."""
    monkeypatch.setattr(app_module, "_default", DefaultApp(app_module.Jetq))
