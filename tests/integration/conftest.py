"""Fixtures of tests on a real worker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jetq import Jetq
from tests.apps.mail_settings import MailSettings
from tests.apps.working import fresh_app


@pytest.fixture
async def app(nats_url: str) -> AsyncIterator[Jetq]:
    """An app of a namespace of its own, which is closed at the end."""
    app = fresh_app(nats_url)
    yield app
    await app.session.aclose()


@pytest.fixture
def mail_settings(monkeypatch: pytest.MonkeyPatch) -> MailSettings:
    def set_variables(**fields: object) -> None:
        for name, value in fields.items():
            monkeypatch.setenv(f"JETQ_EMAIL_{name.upper()}", str(value))

    return set_variables
