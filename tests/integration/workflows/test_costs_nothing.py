"""What is not used costs nothing: plain jobs make no stream, carry no header and ask nothing for the sake of
workflows; and a workflow that waits costs little."""

from __future__ import annotations

import nats
import pytest

from jetq import task
from jetq.encoding.sealer import Sealer
from jetq.operations.workflows.creating import watch_job
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.watching import Turn, take_turn
from jetq.worker.workflows.ends import Ends
from jetq.worker.workflows.members import Members
from tests.apps.fresh import no_app_yet, own_tasks
from tests.apps.working import fresh_app, working
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


async def test_a_plain_job_knows_nothing_of_workflows(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)

    async def never(*_: object) -> None:
        raise AssertionError("a plain job was taken for a member")

    monkeypatch.setattr(Members, "begin", never)
    monkeypatch.setattr(Ends, "ended", never)
    app = fresh_app(nats_url)

    async def fn(n: int) -> int:
        if n == 3:
            raise ValueError("no 3")
        return n

    plain = task(name="tests.plain", max_attempts=1)(fn)
    jobs = [await plain.adelay(n) for n in range(4)]
    broker = await app.session.broker()
    stored = await broker.find("default", jobs[0].id)
    assert stored is not None
    assert set(stored.delivery.headers) == {"Nats-Msg-Id"}
    async with working(app):
        assert [await job.aresult(20) for job in jobs[:3]] == [0, 1, 2]
        with pytest.raises(ValueError, match="no 3"):
            await jobs[3].aresult(20)
        survey = await (await app.session.broker()).survey({})
    names = {stream.name for stream in survey.streams}
    assert names
    assert not {name for name in names if name.endswith(("_FLOWS", "_COUNTS"))}


async def test_a_turn_of_a_watch_over_what_waits_makes_three_requests(
    nats_server: NatsServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the plan, for the newest entry of the workflow, and for the job that waits."""
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    url = nats_server().url
    app = fresh_app(url)

    async def fn(n: int) -> int:
        return n

    plain = task(name="tests.plain")(fn)
    flow = await (plain.bind(1) | plain).adelay(delay=86_400)
    broker = await app.session.broker()
    life, _ = await open_life(broker, Sealer(None), flow.id)
    assert life is not None
    place = watch_job(life).meta.flow
    assert place is not None

    listener = await nats.connect(url)
    requests = await listener.subscribe("$JS.API.>")  # a copy of each goes here before its answer is made
    await listener.flush()
    turn = Turn()
    for number in (1, 2):
        following = await take_turn(broker, Sealer(None), place, turn, broker.now())
        assert following is not None
        turn = following[1]
        await listener.flush()
        assert (turn.turn, requests.pending_msgs) == (number, 3 * number)
    await listener.close()
    await app.session.aclose()
