"""The worlds every test of the contract runs in: memory and JetStream."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.contract.world import JetStreamWorld, MemoryWorld, World


@pytest.fixture
def lease() -> float:
    """Seconds a delivery stays with its holder; long, except where that is what a file tests."""
    return 30.0


@pytest.fixture(params=["memory", "jetstream"])
async def world(request: pytest.FixtureRequest, lease: float, anyio_backend: str) -> AsyncIterator[World]:
    if request.param == "memory":
        made: World = MemoryWorld(lease)
    else:
        made = JetStreamWorld(lease, request.getfixturevalue("nats_url"))
    yield made
    await made.close()
