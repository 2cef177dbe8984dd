"""Sessions: one broker per loop, one on the session's own thread, closed with their loops, none shared over a fork."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from jetq.broker import Broker
from jetq.client.session import Session
from jetq.errors import BrokerUnavailable, JetqWarning
from jetq.memory import MemoryBroker


class Closable(MemoryBroker):
    """Knows where it was made and whether it was closed there."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.thread = threading.current_thread().name
        self.closed = False

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        self.closed = True
        await super().close()


class Made:
    """What `connect` made so far. `before` runs in each connect."""

    def __init__(self) -> None:
        self.brokers: list[Closable] = []
        self.patient: list[bool] = []
        self.before: Callable[[], None] = lambda: None

    async def connect(self, *, patient: bool = False) -> Broker:
        await asyncio.sleep(0.01)
        self.before()
        self.patient.append(patient)
        self.brokers.append(Closable())
        return self.brokers[-1]


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def session(made: Made) -> Iterator[Session]:
    session = Session(made.connect)
    yield session
    session.close()
    gc.collect()  # so that a warning of what was left open belongs to this test


def test_all_callers_of_a_loop_share_one_broker(session: Session, made: Made) -> None:
    async def main() -> list[Broker]:
        return await asyncio.gather(*(session.broker() for _ in range(20)))

    assert set(map(id, asyncio.run(main()))) == {id(made.brokers[0])}
    assert len(made.brokers) == 1


def test_two_loops_in_sequence_each_have_their_own_and_close_it(session: Session, made: Made) -> None:
    first = asyncio.run(session.broker())
    second = asyncio.run(session.broker())
    assert first is not second
    assert [broker.closed for broker in made.brokers] == [True, True]


def test_sync_callers_of_all_threads_share_the_sessions_own(session: Session, made: Made) -> None:
    threads = [threading.Thread(target=session.run, args=(session.broker,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [broker.thread for broker in made.brokers] == ["jetq-session"]


def test_close_ends_the_thread_and_its_broker_and_the_next_use_starts_anew(session: Session, made: Made) -> None:
    session.run(session.broker)
    session.close()
    assert made.brokers[0].closed
    assert "jetq-session" not in {thread.name for thread in threading.enumerate()}
    assert session.run(session.broker) is made.brokers[1]


def test_close_does_not_leave_a_waiting_caller_waiting(session: Session) -> None:
    waiting = threading.Event()
    told: list[Exception] = []

    async def forever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            session.run(forever)
        except BrokerUnavailable as error:
            told.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    waiting.wait(5)
    session.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "closed before an answer came" in str(told[0])


def test_aclose_closes_the_running_loops_broker(session: Session, made: Made) -> None:
    async def main() -> None:
        await session.broker()
        await session.aclose()
        assert made.brokers[0].closed
        assert await session.broker() is made.brokers[1]

    asyncio.run(main())


def test_a_failed_connect_is_tried_again(session: Session, made: Made) -> None:
    def fail() -> None:
        made.before = lambda: None
        raise BrokerUnavailable("nothing listens")

    made.before = fail
    with pytest.raises(BrokerUnavailable):
        session.run(session.broker)
    assert session.run(session.broker) is made.brokers[0]


def test_a_caller_that_gives_up_leaves_a_connection_for_the_next(session: Session, made: Made) -> None:
    async def main() -> None:
        first = asyncio.create_task(session.broker())
        second = asyncio.create_task(session.broker())
        await asyncio.sleep(0)
        first.cancel()
        assert await second in made.brokers

    asyncio.run(main())


def test_patience_is_passed_on(session: Session, made: Made) -> None:
    async def main() -> None:
        await session.broker(patient=True)

    asyncio.run(main())
    session.run(session.broker)
    assert made.patient == [True, False]


SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="nothing")


def test_the_connection_does_not_keep_the_context_of_who_needed_it_first(session: Session, made: Made) -> None:
    seen: list[str] = []
    made.before = lambda: seen.append(SEEN.get())

    async def main() -> None:
        SEEN.set("a request")
        await session.broker()

    asyncio.run(main())
    assert seen == ["nothing"]


def test_the_callers_context_crosses_with_the_call(session: Session) -> None:
    async def see() -> str:
        return SEEN.get()

    def in_context() -> str:
        SEEN.set("a request")
        return session.run(see)

    assert contextvars.copy_context().run(in_context) == "a request"


def test_on_a_running_loop_it_works_and_warns_once_of_the_line_that_called(session: Session) -> None:
    async def answer() -> int:
        return 42

    async def main() -> None:
        with pytest.warns(JetqWarning, match="adelay") as warned:
            assert session.run(answer) == 42
        assert [each.filename for each in warned] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert session.run(answer) == 42

    asyncio.run(main())


def test_exceptions_cross_as_they_are(session: Session) -> None:
    async def fail() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        session.run(fail)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """The interpreter changes threads wherever it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which has them ignore it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("hasty_threads", "heeding_ctrl_c")
def test_ctrl_c_ends_the_wait_and_the_work_wherever_it_comes(session: Session) -> None:
    session.run(_nothing)
    for _ in range(500):  # sent by the work itself, it often comes before the wait for it has begun
        cancelled = threading.Event()
        with pytest.raises(KeyboardInterrupt):
            session.run(lambda: _interrupt_and_stay(cancelled))  # noqa: B023 - called within the round
        assert cancelled.wait(5)


async def _nothing() -> None: ...


async def _interrupt_and_stay(cancelled: threading.Event) -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.set()
        raise


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own(session: Session, made: Made) -> None:
    session.run(session.broker)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert session.run(session.broker) is made.brokers[1]
            assert asyncio.run(session.broker()) is made.brokers[2]
            assert not made.brokers[0].closed
            session.close()
            os.write(writing, b"well")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        assert told.read() == b"well"
    os.waitpid(child, 0)
    assert session.run(session.broker) is made.brokers[0]


Told = Callable[[str | Exception], None]


class Beginner:
    """Begins work without a coroutine if it `can`, and has it end as `ends`."""

    def __init__(self) -> None:
        self.can = True
        self.ends: str | Exception = "begun"
        self.brokers: list[Broker] = []

    def begin(self, broker: Broker, told: Told, wanted: Callable[[], bool]) -> bool:
        self.brokers.append(broker)
        if self.can:
            asyncio.get_running_loop().call_soon(told, self.ends)
        return self.can


async def _awaited() -> str:
    return "awaited"


def test_what_can_begin_without_a_coroutine_does_once_there_is_a_connection(session: Session, made: Made) -> None:
    beginner = Beginner()
    assert session.run(_awaited, beginner.begin) == "awaited"
    session.run(session.broker)
    assert session.run(_awaited, beginner.begin) == "begun"
    assert beginner.brokers == made.brokers

    beginner.can = False
    assert session.run(_awaited, beginner.begin) == "awaited"


def test_an_error_of_what_began_without_a_coroutine_crosses_as_it_is(session: Session) -> None:
    beginner = Beginner()
    beginner.ends = LookupError("x")

    def fail(broker: Broker, told: Told, wanted: Callable[[], bool]) -> bool:
        raise KeyError("y")

    session.run(session.broker)
    with pytest.raises(LookupError, match="x"):
        session.run(_awaited, beginner.begin)
    with pytest.raises(KeyError, match="y"):
        session.run(_awaited, fail)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_ends_the_wait_for_what_began_without_a_coroutine(session: Session) -> None:
    late: list[Told] = []

    def interrupt(broker: Broker, told: Told, wanted: Callable[[], bool]) -> bool:
        late.append(told)
        os.kill(os.getpid(), signal.SIGINT)
        return True

    session.run(session.broker)
    with pytest.raises(KeyboardInterrupt):
        session.run(_awaited, interrupt)
    late[0]("nobody waits for it any more")
    assert session.run(_awaited) == "awaited"
