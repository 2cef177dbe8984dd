"""What several tests of faults use: three servers, a ledger of what has run, and older versions of the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.ledger import Ledger
from tests.apps.older import OLD, build
from tests.servers import NatsCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three servers of the test's own."""
    cluster = NatsCluster(tmp_path / "nats")
    yield cluster
    cluster.stop()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger that the tasks of this process write to."""
    ledger = Ledger(tmp_path / "ledger")
    monkeypatch.setenv("JETQ_TEST_LEDGER", str(ledger.path))
    return ledger


@pytest.fixture(scope="session", params=list(OLD.values()), ids=list(OLD))
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an older version of the package, installed."""
    return build(request.param, tmp_path_factory.mktemp("old"))
