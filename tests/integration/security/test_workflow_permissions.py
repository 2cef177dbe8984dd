"""Workflows by users with just the permissions of their roles: they suffice across queues, and each of them is needed.

The producer stores plans that begin in the queue cpu and may go on in gpu, never in billing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats
import pytest
from msgspec.structs import replace

from jetq import Denied, Jetq, JobCancelled, TaskFailed, each, group
from jetq.cli.verbs.setup_acl import permissions, render
from jetq.jetstream.streams.permissions import Permissions
from jetq.operations.dead_letters import DeadFilter, Replay, refs_of
from jetq.operations.workflows import creating, watching
from tests.apps.working import until, working
from tests.integration.workflows.flows import quiet, until_status
from tests.servers import NatsServer, NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(280)]

USERS = "authorization {{ users: [\n{{ user: admin, password: x }}\n{users}\n] }}\n"

BROKEN: set[str] = set()
"""Words whose task fails."""

CHARGED: list[str] = []


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN.clear()
    CHARGED.clear()
    for module in (creating, watching):  # so that the watch takes its turns soon
        monkeypatch.setattr(module, "FIRST_TURN", 0.5)


def define(url: str = "nats://127.0.0.1:4222") -> Jetq:
    """An app with tasks of three queues."""
    app = Jetq(url, namespace="shop")

    @app.task(name="cpu.say", queue="cpu", max_attempts=1)
    async def say(word: str) -> str:
        if word in BROKEN:
            raise ValueError(word)
        return word

    @app.task(name="cpu.upto", queue="cpu")
    async def upto(n: int) -> list[str]:
        return [str(number) for number in range(n)]

    @app.task(name="cpu.count", queue="cpu")
    async def count(words: list[str]) -> int:
        return len(words)

    @app.task(name="gpu.infer", queue="gpu")
    async def infer(words: list[str]) -> int:
        return len(words)

    @app.task(name="billing.charge", queue="billing")
    async def charge(word: str) -> str:
        CHARGED.append(word)
        return word

    return app


def roles() -> dict[str, Permissions]:
    """The permissions of each user."""
    cpu = permissions(define(), queues=["cpu"], plans=True, enqueues=["gpu.infer"])
    every = permissions(define(), queues=["cpu", "gpu", "billing"])
    return {
        "producer": cpu["producer"],
        "worker": cpu["worker"],
        "gpu": permissions(define(), queues=["gpu"])["worker"],
        "cancel": cpu["cancel"],
        "operator": every["operator"],
        "lesser": cpu["operator"],
    }


class Fleet:
    """A server with the users, and an app for each of them."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self._apps: dict[str, Jetq] = {}

    def __getitem__(self, user: str) -> Jetq:
        if user not in self._apps:
            self._apps[user] = define(self.server.url.replace("//", f"//{user}:x@"))
        return self._apps[user]

    def task(self, name: str) -> Any:
        """A task as the producer has it."""
        return self["producer"].tasks[name]

    def refused(self) -> list[str]:
        """The subjects on which somebody published without the permission."""
        return re.findall(r'Publish Violation - .*Subject "([^"]+)"', self.server.log)

    async def close(self) -> None:
        for app in self._apps.values():
            await app.session.aclose()


@asynccontextmanager
async def fleet(start: NatsServerFactory, users: Mapping[str, Permissions] | None = None) -> AsyncIterator[Fleet]:
    """The queues are made, and no worker runs yet."""
    users = roles() if users is None else users
    named = "\n".join(f"{{ user: {user}, password: x, permissions: $JETQ_{user.upper()} }}" for user in users)
    made = Fleet(start(render(users) + USERS.format(users=named)))
    try:
        broker = await made["admin"].session.broker()
        for queue in ("cpu", "gpu", "billing"):
            await broker.setup(queue)
        await broker.setup_records()
        await broker.setup_ledger()
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def workers(made: Fleet, *, of_cpu: str = "worker") -> AsyncIterator[None]:
    async with (
        working(made[of_cpu], queues=["cpu"]),
        working(made["gpu"], queues=["gpu"]),
    ):
        yield


def across(made: Fleet) -> Any:
    """A work that begins in cpu and ends in gpu."""
    return group(made.task("cpu.say").bind(word) for word in "abc") | made.task("gpu.infer")


# --- program 7


async def test_a_workflow_of_two_queues_ends_by_users_with_just_these_rights(nats_server: NatsServerFactory) -> None:
    async with fleet(nats_server) as made:
        async with workers(made):
            flow = await (across(made)).adelay()
            assert await flow.aresult(60) == 3
            await closed(made, flow.id)
        assert made.refused() == []


async def test_a_plan_that_names_a_task_of_a_queue_that_is_not_the_creators_is_refused_with_its_name(
    nats_server: NatsServerFactory,
) -> None:
    async with fleet(nats_server) as made:
        work = made.task("cpu.say").bind("a") | made.task("billing.charge")
        with pytest.raises(Denied) as refused:
            await work.adelay(id="weekly-48")
        assert "plan weekly-48 names billing.charge, but its creator may not plan for queue billing" in str(
            refused.value
        )
        assert "jetq setup acl --plans -q billing" in str(refused.value)
        broker = await made["admin"].session.broker()
        assert await broker.read_entry("plan.*.weekly-48", surely=True) is None


async def store_past_the_check(made: Fleet, monkeypatch: pytest.MonkeyPatch, work: Any, id: str) -> Any:
    """Store a plan as one does who writes it by hand, or as an earlier jetq did."""

    broker = await made["producer"].session.broker()
    write = broker.write_entry

    async def note_nothing(name: str, body: bytes, **keywords: Any) -> int | None:
        return 1 if ".allow." in name else await write(name, body, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(broker, "write_entry", note_nothing)
        return await work.adelay(id=id)


async def test_a_plan_that_was_stored_past_that_check_fails_and_goes_on_once_an_operator_says_so(
    nats_server: NatsServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: no plan makes workers run a task of a queue for which its creator may not plan, whatever these workers
    may enqueue."""
    users = roles()
    users["worker"] = permissions(define(), queues=["cpu"], enqueues=["gpu.infer", "billing.charge"])["worker"]
    says = "plan weekly-48 names billing.charge, but its creator may not plan for queue billing"
    async with fleet(nats_server, users) as made, workers(made), working(made["admin"], queues=["billing"]):
        work = made.task("cpu.say").bind("a") | made.task("billing.charge")
        flow = await store_past_the_check(made, monkeypatch, work, "weekly-48")
        with pytest.raises(TaskFailed, match=says):
            await flow.aresult(60)
        (failure,) = (await flow.asteps())["charge"].failures
        assert (failure.reason, failure.message) == ("forbidden", says)
        assert not CHARGED

        with pytest.raises(Denied, match=r"names billing.charge, but whoever retries it may not plan for queue billin"):
            await made["lesser"].workflow("weekly-48").aretry()
        assert not CHARGED

        assert await made["operator"].workflow("weekly-48").aretry() == 1
        assert await flow.aresult(60) == "a"
        assert CHARGED == ["a"]


async def test_a_first_call_in_another_queue_is_forbidden_too(
    nats_server: NatsServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(nats_server) as made, workers(made):
        work = group([made.task("cpu.say").bind("a"), made.task("billing.charge").bind("b")])
        flow = await store_past_the_check(made, monkeypatch, work, "both")
        with pytest.raises(TaskFailed, match=r"plan both names billing\.charge, but its creator may not plan for"):
            await flow.aresult(60)


async def test_a_worker_that_may_not_enqueue_a_step_says_so_and_a_retry_goes_on_with_the_right(
    nats_server: NatsServerFactory,
) -> None:
    users = roles()
    users["poor"] = permissions(define(), queues=["cpu"])["worker"]
    async with fleet(nats_server, users) as made:
        flow = await across(made).adelay()
        async with workers(made, of_cpu="poor"):
            with pytest.raises(TaskFailed, match=r"worker \S+ may not enqueue gpu\.infer in queue gpu: no perm"):
                await flow.aresult(60)
            (failure,) = (await flow.asteps())["infer"].failures
            assert failure.reason == "forbidden"
        async with workers(made):
            assert await made["lesser"].workflow(flow.id).aretry() == 1
            assert await flow.aresult(60) == 3


async def test_a_workflow_of_no_calls_ends_by_its_watch_because_its_creator_may_end_none(
    nats_server: NatsServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creating, "FIRST_TURN", 3_600.0)  # its creator has it come sooner
    async with fleet(nats_server) as made:
        flow = await each(made.task("cpu.say"), list[str]()).adelay()
        other = await (each(made.task("cpu.say"), list[str]()) | made.task("cpu.count")).adelay()
        async with workers(made):
            assert await flow.aresult(60) == []
            assert await other.aresult(60) == 0


async def test_who_may_cancel_can_cancel_and_look_and_make_no_value(nats_server: NatsServerFactory) -> None:
    async with fleet(nats_server) as made:
        flow = await across(made).adelay(delay=3_600)
        handle = made["cancel"].workflow(flow.id)
        assert await handle.astatus() == "running"
        assert (await handle.asteps())["infer"].state == "waiting"
        assert await handle.acancel() == "cancelled"
        assert made.refused() == []
        with pytest.raises(JobCancelled):
            await flow.aresult(60)
        life = (await flow_life(made, flow.id)).encode().decode()
        forbidden = [
            f"shop._flow.{life}.state.end",
            f"shop._flow.{life}.mark.say.0.0.ok",
            f"shop._flow.{life}.mark.say.0.0.bad",
            f"shop._flow.{life}.allow.gpu",
            f"shop._flow.{life}.page.say.0.0",
            f"shop._count.{life}.say.0",
            f"shop._plan.cpu.{flow.id}",
            "shop.cpu.run.cpu:say.-.x",
            "shop.gpu.run.jetq:watch.-.x",
            "$JS.API.STREAM.PURGE.SHOP_JETQ_FLOWS",
            "$JS.API.STREAM.MSG.DELETE.SHOP_JETQ_FLOWS",
            "$JS.API.STREAM.PURGE.SHOP_CPU_JOBS",
        ]
        client = await nats.connect(made.server.url.replace("//", "//cancel:x@"), error_cb=ignored)
        for subject in forbidden:
            await client.publish(subject, b"{}")
        await client.flush()
        await until(lambda: set(forbidden) <= set(made.refused()))
        await client.close()


async def ignored(_: Exception) -> None: ...


async def flow_life(made: Fleet, id: str) -> str:
    broker = await made["admin"].session.broker()
    entry = await broker.read_entry(f"plan.*.{id}", surely=True)
    assert entry is not None
    found = re.search(rb'"life":"([^"]+)"', entry.body)
    assert found is not None
    return found[1].decode()


async def closed(made: Fleet, id: str) -> None:
    """Until the watch has closed the workflow."""
    broker = await made["admin"].session.broker()
    async with asyncio.timeout(60):
        while not (plan := await broker.read_entry(f"plan.*.{id}", surely=True)) or b'"closed"' not in plan.body:
            await asyncio.sleep(0.05)


# --- the table: each right removed makes something fail


async def pages(made: Fleet) -> None:
    """More members than a page, then another queue; and members of a number that nobody knows before."""
    say, upto = made.task("cpu.say"), made.task("cpu.upto")
    many = await (each(say, [str(n) for n in range(1_001)]) | made.task("gpu.infer")).adelay()
    some = await (each(say, upto.bind(3).out) | made.task("cpu.count")).adelay()
    async with workers(made):
        assert (await many.aresult(60), await some.aresult(60)) == (1_001, 3)
        await closed(made, many.id)


async def retried(made: Fleet) -> None:
    """A member dies, an operator has it run again, and it succeeds late."""
    BROKEN.add("a")
    async with workers(made):
        flow = await across(made).adelay()
        await until_status(flow, "failed")
        BROKEN.clear()
        assert await made["operator"].workflow(flow.id).aretry() == 1
        assert await flow.aresult(60) == 3
        await quiet(made["admin"])


async def replayed(made: Fleet) -> None:
    """A member dies, its letter is replayed, and it succeeds late: its worker takes the failure back."""
    BROKEN.add("a")
    async with workers(made):
        flow = await across(made).adelay()
        await until_status(flow, "failed")
        BROKEN.clear()
        broker: Any = await made["operator"].session.broker()
        await Replay(broker, await refs_of(broker, DeadFilter(queue="cpu"))).run(lambda _: None)
        await until_status(flow, "succeeded")


async def cancelled(made: Fleet) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(creating, "FIRST_TURN", 3_600.0)  # so that the cancel wakes the watch
        flow = await across(made).adelay(delay=3_600)
    for _ in range(2):  # the second one finds that the watch is due, and asks whether its turn has begun
        assert await made["cancel"].workflow(flow.id).acancel() == "cancelled"
    async with workers(made):
        await closed(made, flow.id)


async def empty(made: Fleet) -> None:
    flow = await each(made.task("cpu.say"), list[str]()).adelay()
    async with workers(made):
        assert await flow.aresult(60) == []


async def forgotten(made: Fleet) -> None:
    """An operator allows what no note allows."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        flow = await store_past_the_check(made, monkeypatch, across(made), "old")
    async with workers(made):
        await until_status(flow, "failed")
        assert await made["operator"].workflow("old").aretry() == 1
        assert await flow.aresult(60) == 3


_FLOWS, _COUNTS = "SHOP_JETQ_FLOWS", "SHOP_JETQ_COUNTS"

TABLE: list[tuple[Callable[[Fleet], Coroutine[Any, Any, None]], str, str]] = [
    (pages, "producer", "shop._plan.cpu.*"),
    (pages, "producer", "shop._flow.*.allow.gpu"),
    (pages, "producer", "shop._flow.*.page.>"),
    (pages, "producer", "shop._flow.*.fed.*"),
    (pages, "producer", "shop.cpu.later.jetq:watch.-.*"),
    (pages, "producer", f"$JS.API.STREAM.INFO.{_FLOWS}"),
    (pages, "producer", f"$JS.API.STREAM.INFO.{_COUNTS}"),
    (pages, "producer", f"$JS.API.STREAM.MSG.GET.{_FLOWS}"),
    (pages, "worker", "shop._plan.cpu.*"),
    (pages, "worker", "shop._flow.*.mark.>"),
    (pages, "worker", "shop._flow.*.full.>"),
    (pages, "worker", "shop._flow.*.size.*"),
    (pages, "worker", "shop._flow.*.fed.*"),
    (pages, "worker", "shop._flow.*.state.*"),
    (pages, "worker", "shop._count.>"),
    (pages, "worker", f"$JS.API.DIRECT.GET.{_FLOWS}"),
    (pages, "worker", f"$JS.API.STREAM.MSG.GET.{_FLOWS}"),
    (pages, "worker", f"$JS.API.STREAM.PURGE.{_FLOWS}"),
    (pages, "worker", f"$JS.API.STREAM.PURGE.{_COUNTS}"),
    (pages, "worker", "shop.gpu.run.gpu:infer.-.*"),
    (pages, "worker", "$JS.API.STREAM.INFO.SHOP_GPU_JOBS"),
    (pages, "gpu", "shop._flow.*.state.*"),
    (replayed, "worker", f"$JS.API.STREAM.MSG.DELETE.{_FLOWS}"),
    (retried, "operator", "shop._ctl.workflow"),
    (retried, "operator", "$JS.API.STREAM.MSG.DELETE.SHOP_JETQ_RESULTS"),
    (retried, "operator", "$JS.API.STREAM.PURGE.SHOP_CPU_DLQ"),
    (forgotten, "operator", "shop._flow.*.allow.gpu"),
    (cancelled, "cancel", "shop._flow.*.state.stop"),
    (cancelled, "cancel", "shop._ctl.workflow"),
    (cancelled, "cancel", "shop.cpu.run.jetq:watch.-.*"),
    (cancelled, "cancel", "$JS.API.STREAM.MSG.GET.SHOP_CPU_JOBS"),
    (cancelled, "cancel", f"$JS.API.STREAM.MSG.GET.{_FLOWS}"),
    (cancelled, "cancel", f"$JS.API.STREAM.INFO.{_FLOWS}"),
    (cancelled, "cancel", f"$JS.API.STREAM.INFO.{_COUNTS}"),
    (cancelled, "cancel", "$JS.API.CONSUMER.INFO.SHOP_CPU_JOBS.cpu"),
]


@pytest.mark.slow
@pytest.mark.parametrize("run", [pages, retried, replayed, cancelled, empty, forgotten], ids=lambda run: run.__name__)
async def test_with_all_rights_nothing_is_refused(
    run: Callable[[Fleet], Coroutine[Any, Any, None]], nats_server: NatsServerFactory
) -> None:
    async with fleet(nats_server) as made:
        await run(made)
        ends = re.compile(r"shop\._flow\.\w+\.state\.end")  # an empty work's, which its creator leaves to the watch
        assert [subject for subject in made.refused() if not (run is empty and ends.fullmatch(subject))] == []


@pytest.mark.slow
@pytest.mark.parametrize(("run", "user", "right"), TABLE, ids=[f"{user}-{right}" for _, user, right in TABLE])
async def test_without_a_right_something_is_refused(
    run: Callable[[Fleet], Coroutine[Any, Any, None]], user: str, right: str, nats_server: NatsServerFactory
) -> None:
    """Guarantee: no permission that a role has for workflows is idle."""
    users = roles()
    assert right in users[user].publish
    users[user] = replace(users[user], publish=tuple(each for each in users[user].publish if each != right))
    wanted = re.compile(re.escape(right).replace(r"\*", r"[^.]+").replace(">", ".+"))
    async with fleet(nats_server, users) as made:
        running = asyncio.create_task(run(made))
        await until(lambda: running.done() or any(map(wanted.fullmatch, made.refused())), timeout=60)
        assert any(map(wanted.fullmatch, made.refused()))
        running.cancel()
        with suppress(BaseException):
            await running
