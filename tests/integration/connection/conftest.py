"""A connection to the server of the run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.connection.watched import Watched, watched


@pytest.fixture
async def shared(nats_url: str) -> AsyncIterator[Watched]:
    async with watched(nats_url) as self:
        yield self
