"""A connection on which the thread that enqueues writes and reads itself. It knows success, no more."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from secrets import token_hex

import pytest

from jetq import Jetq
from jetq.errors import BrokerUnavailable, NotStored
from jetq.jetstream import connect_broker
from jetq.jetstream.broker import JetStreamBroker
from jetq.jetstream.streams.direct_connection import SocketConnection
from jetq.jetstream.transport.nats_client import NatsClient
from jetq.model.job import EnqueueReceipt, JobRecord, Level, Meta
from jetq.model.names import new_job_id
from jetq.settings import Settings
from tests.apps.staying import let_pass
from tests.servers import NatsServer, NatsServerFactory


def job(
    body: bytes = b'{"n":1}', *, queue: str = "default", level: Level = "normal", id: str = "", fresh: bool = True
) -> JobRecord:
    return JobRecord(
        id=id or new_job_id(), task="tests.record", queue=queue, body=body, meta=Meta(), level=level, fresh=fresh
    )


class WithDirect:
    """A broker on a server, and a direct connection of it."""

    def __init__(self, broker: JetStreamBroker, direct: SocketConnection) -> None:
        self.broker = broker
        self.direct = direct

    async def store(self, job: JobRecord) -> EnqueueReceipt | None:
        return await asyncio.to_thread(self.direct.store, job)


async def with_direct(url: str) -> WithDirect:
    broker = await connect_broker(Settings(servers=(url,), namespace=f"t{token_hex(4)}"), name="test")
    await broker.setup("default")
    direct = await broker.open_direct()
    assert isinstance(direct, SocketConnection)
    return WithDirect(broker, direct)


@pytest.fixture
async def here(nats_url: str) -> AsyncIterator[WithDirect]:
    self = await with_direct(nats_url)
    yield self
    self.direct.close()
    await self.broker.close()


@pytest.mark.anyio
async def test_it_stores_what_enqueue_does(here: WithDirect) -> None:
    ours, theirs = job(), job()
    stored = await here.store(ours)
    await here.broker.enqueue(theirs)
    found, usual = await here.broker.find("default", ours.id), await here.broker.find("default", theirs.id)
    assert found is not None
    assert usual is not None
    assert stored == EnqueueReceipt(found.delivery.sequence, ours.id, "new")
    assert (found.delivery.task, found.delivery.body) == (usual.delivery.task, usual.delivery.body)
    assert found.delivery.headers == {"Nats-Msg-Id": ours.id}
    assert usual.delivery.headers == {"Nats-Msg-Id": theirs.id}


@pytest.mark.anyio
async def test_the_same_id_is_stored_once(here: WithDirect) -> None:
    once = job()
    first = await here.store(once)
    assert first is not None
    assert await here.store(once) == first
    found = await here.broker.find("default", once.id)
    assert found is not None
    assert found.delivery.sequence == first.sequence


@pytest.mark.anyio
@pytest.mark.parametrize("what", [job(queue="unheard"), job(level="high"), job(bytes(33 * 1024)), job(fresh=False)])
async def test_what_takes_more_than_a_publish_is_left_to_the_broker(here: WithDirect, what: JobRecord) -> None:
    assert await here.store(what) is None
    assert here.direct.used == 0
    assert await here.store(job()) is not None


@pytest.mark.anyio
async def test_a_stream_that_is_gone_is_left_to_the_broker(here: WithDirect) -> None:
    await here.broker.connection.request(f"$JS.API.STREAM.DELETE.{here.broker.subjects.jobs('default')}", timeout=5)
    lost = job()
    assert await here.store(lost) is None
    assert here.direct.is_open
    assert (await here.broker.enqueue(lost)).disposition == "new"
    assert await here.store(job()) is not None


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["kill", "stop", "pause"])
async def test_with_its_server_it_ends_in_a_moment(nats_server: NatsServerFactory, fault: str) -> None:
    server = nats_server()
    here = await with_direct(server.url)
    assert await here.store(job()) is not None
    getattr(server, fault)()
    async with asyncio.timeout(3):
        if fault == "pause":
            with pytest.raises(NotStored):
                await here.store(job())
        else:  # that is known before anything is written
            assert await here.store(job()) is None
    assert not here.direct.is_open
    if fault == "pause":
        server.resume()
    await here.broker.close()


@pytest.mark.anyio
async def test_one_that_breaks_off_as_it_is_opened_leaves_no_socket_behind(
    here: WithDirect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    monkeypatch.setattr(NatsClient, "hand_over", lambda client: client.drop("handed over") or ours)
    with pytest.raises(BrokerUnavailable, match="broke off"):
        await here.broker.open_direct()
    assert ours.fileno() == -1


@pytest.mark.anyio
async def test_it_answers_the_servers_pings(nats_server: NatsServerFactory) -> None:
    here = await with_direct(nats_server('ping_interval: "200ms"\nping_max: 2\n').url)
    for _ in range(6):
        await let_pass(0.3)
        assert await here.store(job()) is not None
    here.direct.close()
    await here.broker.close()


# --- without a server: every word that can come


INBOX = "inbox"


def said(data: bytes, subject: bytes = b"inbox.1") -> bytes:
    return b"MSG %s 1 %d\r\n%s\r\n" % (subject, len(data), data)


ACK = said(b'{"stream":"S","seq":7}')
NO_RESPONDERS = b"HMSG inbox.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"


class Wire:
    """A direct connection, and the other end of its socket, where nothing listens."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5)
        self.direct = SocketConnection(
            ours, INBOX, {"default"}, lambda job: ("jobs." + job.id, {"Nats-Msg-Id": job.id})
        )


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.direct.close()
    wire.theirs.close()


def test_what_goes_over_the_wire(wire: Wire) -> None:
    wire.theirs.sendall(ACK)
    wire.direct.store(job(b"{}", id="a-1"))
    assert wire.theirs.recv(4096) == (
        b"SUB inbox.* 1\r\nHPUB jobs.a-1 inbox.1 30 32\r\nNATS/1.0\r\nNats-Msg-Id: a-1\r\n\r\n{}\r\n"
    )


@pytest.mark.parametrize(
    ("comes", "sequence", "open_after"),
    [
        pytest.param(ACK, 7, True, id="an acknowledgement"),
        pytest.param(b"+OK\r\nPING\r\n" + ACK, 7, True, id="a ping before"),
        pytest.param(ACK + said(b'{"seq":9}', b"inbox.9"), 7, False, id="another answer after it, of a second stream"),
        pytest.param(b'INFO {"ldm":true}\r\n' + ACK, 7, False, id="a server that is about to leave"),
        pytest.param(said(b'{"error":{"err_code":10077}}'), None, True, id="a refusal"),
        pytest.param(NO_RESPONDERS, None, True, id="no responders"),
        pytest.param(b"-ERR 'Permissions Violation for Publish'\r\n", None, False, id="no permission"),
    ],
)
def test_what_is_heard(wire: Wire, comes: bytes, sequence: int | None, open_after: bool) -> None:
    wire.theirs.sendall(comes)
    given = job()
    assert wire.direct.store(given) == (None if sequence is None else EnqueueReceipt(sequence, given.id, "new"))
    assert wire.direct.is_open is open_after
    assert wire.theirs.recv(4096).endswith(b"PONG\r\n") is (b"PING" in comes)


@pytest.mark.parametrize(
    "comes",
    [
        pytest.param(b"-ERR 'Slow Consumer'\r\n", id="an error"),
        pytest.param(b"MSG x\r\n", id="garbage"),
        pytest.param(said(b"nonsense"), id="an answer that is none"),
        pytest.param(b"", id="nothing"),
        pytest.param(ACK[:-5], id="half an answer"),
    ],
)
def test_what_is_no_answer_leaves_the_fate_of_the_job_open(wire: Wire, comes: bytes) -> None:
    wire.theirs.sendall(comes)
    with pytest.raises(NotStored):
        wire.direct.store(job())
    assert not wire.direct.is_open


@pytest.mark.parametrize("first", [1, 4, 9])
def test_an_answer_in_pieces(wire: Wire, first: int) -> None:
    wire.direct._sock.settimeout(30.0)  # the machine may be busy
    size = -(-len(ACK) // 8)  # fewer pieces than it reads for one answer, if each is read alone
    cuts = [0, *range(first, len(ACK), size), len(ACK)]

    def answer() -> None:
        for begin, end in itertools.pairwise(cuts):
            wire.theirs.sendall(ACK[begin:end])
            time.sleep(0.005)

    thread = threading.Thread(target=answer)
    thread.start()
    assert wire.direct.store(job()) is not None
    thread.join()


def test_pings_without_end_are_no_answer(wire: Wire) -> None:
    enough = threading.Event()

    def ping() -> None:
        while not enough.wait(0.1):
            wire.theirs.sendall(b"PING\r\n")

    thread = threading.Thread(target=ping)
    thread.start()
    with pytest.raises(NotStored):
        wire.direct.store(job())
    enough.set()
    thread.join()


def test_the_other_side_hangs_up(wire: Wire) -> None:
    wire.theirs.close()
    assert wire.direct.store(job()) is None
    assert not wire.direct.is_open


def test_ctrl_c_closes_it(wire: Wire) -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wire.direct.store(job())
    finally:
        signal.signal(signal.SIGINT, usual)
    assert not wire.direct.is_open


# --- as `.delay` uses it


def record(n: int) -> int:
    return n


class Producer:
    """An app whose `.delay` has a direct connection."""

    def __init__(self, url: str) -> None:
        self.app = Jetq(url, namespace=f"t{token_hex(4)}")
        self.record = self.app.task(name="record")(record)
        for n in range(2):
            self.record.delay(n)
        until = time.monotonic() + 5
        while self.app.session.store(job()) is None:  # opened meanwhile, on jetq's thread
            assert time.monotonic() < until
            time.sleep(0.001)

    @property
    def sent(self) -> int:
        direct = self.app.session._direct._connection
        return 0 if direct is None else direct.used

    def ready(self) -> int:
        async def look() -> int:
            (info,) = await (await self.app.session.broker()).queues()
            return info.ready

        return self.app.session.run(look)


@pytest.fixture
def server(nats_server: NatsServerFactory) -> NatsServer:
    return nats_server()


@pytest.fixture
def producer(server: NatsServer) -> Iterator[Producer]:
    producer = Producer(server.url)
    yield producer
    producer.app.session.close()


def test_delay_goes_over_it(producer: Producer) -> None:
    before = producer.sent
    jobs = [producer.record.delay(n) for n in range(100)]
    assert producer.sent == before + 100
    assert producer.ready() == 103
    assert {each.disposition for each in jobs} == {"new"}
    assert jobs[-1].status() == "queued"


def test_delay_over_it_while_its_server_is_restarted(producer: Producer, server: NatsServer) -> None:
    """Guarantee: a connection that breaks costs no job and doubles none: each is repeated by its id the other way."""
    done = threading.Event()
    ids: list[str] = []

    def enqueue() -> None:
        while not done.is_set():
            ids.append(producer.record.delay(len(ids)).id)

    thread = threading.Thread(target=enqueue)
    thread.start()
    for end in (server.kill, server.stop):
        time.sleep(0.2)
        end()
        server.start()
    time.sleep(0.2)
    done.set()
    thread.join(20)
    assert len(set(ids)) == len(ids) > 0
    assert producer.ready() == len(ids) + 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_use_its_parents(producer: Producer) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for n in range(50):
                producer.record.delay(n)
            status = 0
        finally:
            os._exit(status)
    for n in range(50):
        producer.record.delay(n)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert producer.ready() == 103
