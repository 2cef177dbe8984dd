"""What several tests of faults use: three servers, and a ledger of what has run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.ledger import Ledger
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
