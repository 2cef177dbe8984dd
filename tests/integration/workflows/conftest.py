"""What the tests of workflows share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jetq import EncryptedPayloads, Jetq
from jetq.testing import in_memory
from tests.apps.fresh import no_app_yet
from tests.apps.working import fresh_app
from tests.integration.workflows.flows import steps

__all__ = ["app", "steps"]


@pytest.fixture(params=["server", "encrypted", "memory"])
def app(request: pytest.FixtureRequest, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jetq]:
    """An app of the test alone."""
    no_app_yet(monkeypatch)
    match request.param:
        case "server":
            yield fresh_app(nats_url)
        case "encrypted":
            yield fresh_app(nats_url, payloads=EncryptedPayloads({"now": b"1" * 32}))
        case _:
            with in_memory() as tester:
                yield tester.app
