"""A workflow is cancelled although the store has no room for the note that it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jetq import JobCancelled, each
from tests.apps.fresh import no_app_yet
from tests.apps.full_store import SMALL_STORE, full_store
from tests.apps.working import fresh_app, until, working
from tests.integration.workflows.flows import Steps, quiet, steps
from tests.servers import NatsServerFactory

__all__ = ["steps"]

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(280)]


async def test_a_cancel_without_room_removes_what_waits_and_nothing_else(
    nats_server: NatsServerFactory, tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: what a full store refuses to a cancel, the members of the cancelled workflow make room for."""
    no_app_yet(monkeypatch)
    server = nats_server(SMALL_STORE.format(store=json.dumps(str(tmp_path / "store"))))
    app = fresh_app(server.url)
    many = [f"{'x' * 500} {number}" for number in range(1_000)]
    flow = await each(steps.say, many).finally_(steps.say.bind("end")).adelay()
    other = await steps.say.bind("other").adelay()
    async with full_store(server.url):
        assert await flow.acancel() == "cancelled"
        assert await flow.astatus() == "cancelled"
        assert await other.astatus() == "running"
    async with working(app):
        await until(lambda: steps.ran["end"], timeout=120)
        assert await other.aresult(60) == "other"
        with pytest.raises(JobCancelled):
            await flow.aresult(60)
        await quiet(app)
    assert steps.ran == {"end": 1, "other": 1}
