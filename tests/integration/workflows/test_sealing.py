"""Sealed workflows: whoever writes into the ledger without a key makes no member run with other arguments, and reads
nothing there."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from jetq import BadPayload, EncryptedPayloads, Jetq, PayloadCodec, SignedPayloads, TaskFailed, each, group
from jetq.client.workflows.workflow import Workflow
from jetq.encoding.workflows import encode_closed, encode_ended
from jetq.errors import ResultError
from jetq.model.workflows import names
from jetq.model.workflows.records import Closed, Ended
from jetq.operations.workflows.firing import member_job, place_of
from tests.apps.working import fresh_app, working
from tests.integration.workflows.flows import life_of, until_status
from tests.servers import NatsServer, NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(580)]

CODECS: dict[str, PayloadCodec] = {
    "signed": SignedPayloads({"now": b"1" * 32}),
    "encrypted": EncryptedPayloads({"now": b"1" * 32}),
}
STEP_BETWEEN = 1 if os.environ.get("JETQ_TEST_SWEEP") == "all" else 37
"""Bytes from one that is changed to the next. Together with the first and the last ones."""


class Till:
    """Members that note what they were called with: `pay` in queue a, one after the other, and then `total` in b."""

    def __init__(self, url: str, codec: PayloadCodec) -> None:
        self.app = app = fresh_app(url, payloads=codec)
        self.paid: list[int] = []
        self.summed: list[list[int]] = []

        @app.task(name="till.pay", queue="a", max_attempts=1)
        async def pay(cents: int) -> int:
            self.paid.append(cents)
            return cents

        @app.task(name="till.total", queue="b", max_attempts=1)
        async def total(cents: list[int]) -> int:
            self.summed.append(cents)
            return sum(cents)

        self.pay, self.total = pay, total

    async def store(self, number: int) -> Workflow[int]:
        """Store a workflow whose amounts no other one has."""
        return await (each(self.pay, amounts(number)).window(1) | self.total).adelay(id=f"flow-{number}")

    def ran_as_stored(self, numbers: Sequence[int]) -> bool:
        """Whether all that ran was called with arguments of the workflows `numbers`, each with its own."""
        mine = [amounts(number) for number in numbers]
        return set(self.paid) <= {cents for each in mine for cents in each} and all(
            cents in mine for cents in self.summed
        )


def amounts(number: int) -> list[int]:
    return [number * 100 + 11, number * 100 + 22]


def changed(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


async def record_of(app: Jetq, flow: Workflow[Any], part: str) -> str:
    """The name of a record of the workflow."""
    life = await life_of(app, flow)
    match part:
        case "plan":
            return names.plan(life.home, flow.id)
        case "page":
            return names.page(life.id, "pay", 0, 0)
        case _:
            return names.ok(life.id, "pay", 0, 0)


async def body_of(app: Jetq, name: str) -> bytes:
    entry = await (await app.session.broker()).read_entry(name, surely=True)
    assert entry is not None, name
    return entry.body


async def write(app: Jetq, name: str, body: bytes) -> None:
    await (await app.session.broker()).write_entry(name, body)


async def run_until_quiet(till: Till, queue: str) -> None:
    """Until nothing of the queue is ready, and nothing runs but what waits for another try."""
    async with working(till.app, queues=[queue]):
        broker = await till.app.session.broker()
        async with asyncio.timeout(120):
            while any(info.ready or info.running for info in await broker.queues() if info.name == queue):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("part", ["plan", "page", "mark"])
async def test_with_any_byte_changed_nothing_runs_with_other_arguments(part: str, codec: str, nats_url: str) -> None:
    """Guarantee: what was changed in the ledger is refused, in words, or changes nothing."""
    till = Till(nats_url, CODECS[codec])
    first = await till.store(0)
    if part == "mark":
        await run_until_quiet(till, "a")
    size = len(await body_of(till.app, await record_of(till.app, first, part)))
    places = sorted({*range(0, size, STEP_BETWEEN), size - 1, size - 2})
    flows = [first] + [await till.store(number) for number in range(1, len(places) + 1)]
    if part == "mark":
        await run_until_quiet(till, "a")
    for at, flow in zip(places, flows[1:], strict=True):
        name = await record_of(till.app, flow, part)
        body = await body_of(till.app, name)
        await write(till.app, name, changed(body, at % len(body)))
    await run_until_quiet(till, "a")
    await run_until_quiet(till, "b")
    assert till.ran_as_stored(range(len(flows)))
    assert await first.aresult(60) == sum(amounts(0))  # which nobody has touched
    ends = [await end_of(flow) for flow in flows[1:]]
    expected = [sum(amounts(number)) for number in range(1, len(flows))]
    others = {end for end, value in zip(ends, expected, strict=True) if end != value}
    assert all(isinstance(end, str) for end in others), others
    assert any("plan" in str(end) or "step" in str(end) or "value" in str(end) for end in others)
    await till.app.session.aclose()


async def end_of(flow: Workflow[Any]) -> Any:
    """The value of a workflow, or in words why it has none."""
    try:
        return await flow.aresult(5)
    except (BadPayload, ValueError, ResultError) as error:
        return str(error)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("part", ["plan", "page", "mark"])
async def test_swapped_between_two_workflows_nothing_runs_with_other_arguments(
    part: str, codec: str, nats_url: str
) -> None:
    till = Till(nats_url, CODECS[codec])
    flows = [await till.store(number) for number in range(2)]
    if part == "mark":
        await run_until_quiet(till, "a")
    one, other = [await record_of(till.app, flow, part) for flow in flows]
    bodies = [await body_of(till.app, name) for name in (one, other)]
    await write(till.app, one, bodies[1])
    await write(till.app, other, bodies[0])
    await run_until_quiet(till, "a")
    await run_until_quiet(till, "b")
    assert till.ran_as_stored(range(2))
    assert not till.summed
    for flow in flows:
        assert "it was changed, or sealed for something else" in str(await end_of(flow))
    await till.app.session.aclose()


async def test_swapped_within_a_workflow_nothing_runs_with_other_arguments(nats_url: str) -> None:
    """Guarantee: what is sealed for one step, one member or one end is taken for no other."""
    till = Till(nats_url, CODECS["encrypted"])
    early = await till.store(0)
    life = await life_of(till.app, early)
    both = group([each(till.pay, [1, 2]).window(1).named("x"), each(till.pay, [3, 4]).window(1).named("y")])
    pages = await both.adelay()
    paged = await life_of(till.app, pages)
    x, y = (names.page(paged.id, step, 0, 0) for step in "xy")
    await write(till.app, y, await body_of(till.app, x))
    await run_until_quiet(till, "a")
    assert sorted(till.paid) == [1, 2, 3, *amounts(0)]  # its first member was stored before
    assert "the arguments of step y" in str(await end_of(pages))

    first, second = (names.ok(life.id, "pay", 0, member) for member in range(2))
    await write(till.app, second, await body_of(till.app, first))
    await run_until_quiet(till, "b")
    assert not till.summed
    assert "the mark of member 1 of step pay" in str(await end_of(early))
    await till.app.session.aclose()


async def test_a_failure_is_taken_for_no_value_and_a_value_in_the_clear_for_no_sealed_one(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=CODECS["signed"])
    seen: list[Any] = []

    @app.task(name="till.fails", queue="a", max_attempts=1)
    async def fails() -> Any:
        raise ValueError("no money")

    @app.task(name="till.takes", queue="b", max_attempts=1)
    async def takes(value: Any) -> int:
        seen.append(value)
        return 7

    flow = await (fails.bind() | takes).adelay()
    life = await life_of(app, flow)
    async with working(app, queues=["a"]):
        await until_status(flow, "failed")
    broker = await app.session.broker()
    failure = await body_of(app, names.bad(life.id, "fails", 0, 0))
    end = await broker.read_entry(names.end(life.id), surely=True)
    assert end is not None
    await broker.drop_entry(end.sequence)
    await broker.purge_entries(names.mark(life.id, "fails", 0, 0))
    await write(app, names.ok(life.id, "fails", 0, 0), failure)
    place = await place_of(life, "takes", 0, looked=broker.now(), again=True)
    await broker.enqueue(member_job(life, "takes", 0, b"{}", place))
    async with working(app, queues=["b"]):
        with pytest.raises(TaskFailed, match="the mark of member 0 of step fails: it was changed"):
            await flow.aresult(60)
    assert not seen
    await app.session.aclose()


async def test_a_value_in_the_clear_is_taken_for_no_sealed_one(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=CODECS["signed"])

    @app.task(name="till.answer", queue="a")
    async def answer() -> int:
        return 7

    flow = await (answer.bind() | answer.bind()).adelay()
    life = await life_of(app, flow)
    async with working(app, queues=["a"]):
        assert await flow.aresult(60) == 7
    await write(app, names.end(life.id), encode_ended(Ended(how="value", value=Raw(b"8"))))
    with pytest.raises(BadPayload, match="it is not signed"):
        await flow.aresult(60)
    closed = Closed(life=life.id, closed="succeeded", at=1.0, value=Raw(b"8"))
    await write(app, names.plan(life.home, flow.id), encode_closed(closed))
    with pytest.raises(BadPayload, match="it is not signed"):
        await flow.aresult(60)
    await app.session.aclose()


SECRET = "c4n4ry"


async def test_no_argument_no_value_and_no_failure_is_found_in_the_files_of_the_server(
    nats_server: NatsServerFactory,
) -> None:
    """Guarantee: who has the files of the server and no key reads neither arguments, nor values, nor why a member of a
    workflow has failed; but what is left of any dead job says what its exception said."""
    server = nats_server()
    app = fresh_app(server.url, payloads=CODECS["encrypted"])

    @app.task(name="till.echo", queue="a")
    async def echo(word: str) -> str:
        return f"{word}-value"

    @app.task(name="till.join", queue="a", max_attempts=1)
    async def join(words: list[str], more: str) -> str:
        if more == f"{SECRET}-breaks":
            raise ValueError(f"{SECRET}-message")
        return "+".join(words)

    paged = each(echo, [f"{SECRET}-{n}" for n in range(3)])
    good = await join.bind(paged.out, more=f"{SECRET}-more").adelay()
    bad = await join.bind(paged.out, more=f"{SECRET}-breaks").adelay()
    await echo.bind(f"{SECRET}-later").adelay(delay=3_600)
    async with working(app, queues=["a"]):
        assert SECRET in await good.aresult(60)
        await until_status(bad, "failed")
        assert f"{SECRET}-message" in (await bad.asteps())["join"].failures[0].message
    await app.session.aclose()
    server.stop()
    found = [path for path in store_of(server).rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    namespace = app.settings.namespace.upper()
    assert {stream_of(path) for path in found} <= {f"{namespace}_A_DLQ", f"{namespace}_JETQ_RESULTS"}
    letters = b"".join(path.read_bytes() for path in found)
    assert set(re.findall(rb"c4n4ry-[a-z0-9]+", letters)) == {b"c4n4ry-message"}


def store_of(server: NatsServer) -> Path:
    return server.directory / "store"


def stream_of(path: Path) -> str:
    parts = path.parts
    return parts[parts.index("streams") + 1]
