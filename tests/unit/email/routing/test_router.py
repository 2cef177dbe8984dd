"""Which error of a route hands a mail to the next one, and which does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from jetq_email.errors import AtRate, OutcomeUnknown, ServerBusy, Throttled, TransportError, Unsendable
from jetq_email.message import Email, Envelope, compose
from jetq_email.outcomes import Refusal, Sent
from jetq_email.routing.breaker import Breaker
from jetq_email.routing.router_transport import RouterTransport
from jetq_email.routing.routes import Route, Router, in_turn

pytestmark = pytest.mark.anyio

MAIL = compose(
    Email(to=["a@x.example", "b@x.example"], subject="s", text="t", sender="s@shop.example"),
    job_id="email:1",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)
ROUTER = Router([Route("memory"), Route("file")], fallback="console")
FIRST, SECOND, LAST = (each.name for each in in_turn(ROUTER, MAIL))


class Fake:
    """A route that does what it is told with each mail, and else takes it."""

    def __init__(self) -> None:
        self.does: Exception | Sent | None = None
        self.had: list[Envelope] = []
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, envelope: Envelope) -> Sent:
        self.had.append(envelope)
        await self.gate.wait()
        if isinstance(self.does, Exception):
            raise self.does
        return Sent(envelope.recipients, (), "r-1") if self.does is None else self.does

    async def close(self) -> None:
        self.closed = True


class Bench:
    """A router over fakes, with a clock in hand."""

    def __init__(self, router: Router = ROUTER) -> None:
        self.now = 0.0
        self.fakes = {each.name: Fake() for each in router.all}
        self.transport = RouterTransport(router, self.fakes, Breaker(clock=lambda: self.now))

    def __getitem__(self, name: str) -> Fake:
        return self.fakes[name]

    async def send(self, envelope: Envelope = MAIL) -> Sent:
        return await self.transport.send(envelope)

    @property
    def had(self) -> list[int]:
        """How many mails each was given, in the order of the turns."""
        return [len(self.fakes[name].had) for name in (FIRST, SECOND, LAST)]


async def test_a_route_that_has_enough_is_passed_over_and_nothing_is_held_against_it() -> None:
    bench = Bench()
    bench[FIRST].does = AtRate("enough", after=30.0)
    assert [(await bench.send()).via for _ in range(5)] == [SECOND] * 5
    assert bench.had == [5, 5, 0]  # it is asked for each mail
    bench[FIRST].does = None
    assert (await bench.send()).via == FIRST


async def test_if_all_have_enough_all_wait_for_the_first_of_them() -> None:
    bench = Bench()
    for place, name in enumerate((FIRST, SECOND, LAST), 1):
        bench[name].does = AtRate("enough", after=place * 10.0)
    with pytest.raises(AtRate) as caught:
        await bench.send()
    assert caught.value.after == 10.0
    bench[FIRST].does = TransportError("down")
    with pytest.raises(TransportError) as failed:
        await bench.send()
    assert type(failed.value) is TransportError


def refused(code: int, *, delivered: tuple[str, ...] = (), unknown: bool = False) -> Sent:
    left = [each for each in MAIL.recipients if each not in delivered]
    return Sent(delivered, tuple(Refusal(each, code, f"about {each}", unknown=unknown) for each in left))


async def test_sent_says_by_which_route() -> None:
    bench = Bench()
    assert await bench.send() == Sent(MAIL.recipients, (), "r-1", FIRST)
    bench[FIRST].does = TransportError("down")
    assert (await bench.send()).via == SECOND


@pytest.mark.parametrize(
    "does",
    [TransportError("down"), ServerBusy("full"), Throttled("slower"), Throttled("slower", after=60), refused(530)],
    ids=["down", "busy", "throttled", "throttled for a minute", "no account"],
)
async def test_the_next_takes_what_a_route_surely_has_not(does: Exception | Sent) -> None:
    bench = Bench()
    bench[FIRST].does = bench[SECOND].does = does
    assert (await bench.send()).via == LAST
    assert bench.had == [1, 1, 1]


async def test_no_other_route_gets_what_one_may_have() -> None:
    """Guarantee: after an unknown outcome only the same route gets the mail, also when it is left alone by then."""
    bench = Bench()
    bench[FIRST].does = OutcomeUnknown("silence")
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.send()
    assert caught.value.via == FIRST
    bench[FIRST].does = TransportError("down")
    for _ in range(5):
        assert (await bench.send()).via == SECOND  # other mails, until it is left alone
    again = replace(MAIL, via=FIRST)
    with pytest.raises(ServerBusy):
        await bench.send(again)
    bench.now += 60
    with pytest.raises(TransportError, match="down"):
        await bench.send(again)
    bench.now += 60
    bench[FIRST].does = None
    assert (await bench.send(again)).via == FIRST
    assert bench.had[1:] == [5, 0]


async def test_duplicates_may_be_allowed() -> None:
    bench = Bench(Router(ROUTER.routes, fallback=ROUTER.fallback, allow_duplicates=True))
    bench[FIRST].does = OutcomeUnknown("silence")
    assert (await bench.send()).via == SECOND
    bench[SECOND].does = bench[LAST].does = OutcomeUnknown("silence")
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.send(replace(MAIL, via="gone"))
    assert caught.value.via is None


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_mail_that_is_cut_off_may_be_with_the_route_that_it_went(allowed: bool) -> None:
    """Guarantee: a worker that ends in order, or an attempt that times out, sends no other route the mail."""
    bench = Bench(Router(ROUTER.routes, fallback=ROUTER.fallback, allow_duplicates=allowed))
    bench[FIRST].gate.clear()
    sending = asyncio.create_task(bench.send())
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError if allowed else OutcomeUnknown) as caught:
        await sending
    assert allowed or (isinstance(caught.value, OutcomeUnknown) and caught.value.via == FIRST)
    assert bench.had == [1, 0, 0]


async def test_a_route_that_may_have_the_mail_and_is_no_more() -> None:
    bench = Bench()
    with pytest.raises(Unsendable, match="route gone may have this mail already"):
        await bench.send(replace(MAIL, via="gone"))
    assert bench.had == [0, 0, 0]


@pytest.mark.parametrize(
    "does",
    [
        refused(550),
        refused(450),
        refused(530, delivered=MAIL.recipients[:1]),
        refused(451, unknown=True),
        Sent((), (refused(530).refused[0], refused(550).refused[1])),
    ],
    ids=["5xx", "4xx", "some have it", "unknown", "one for itself"],
)
async def test_what_is_said_of_the_mail_or_its_recipients_is_final(does: Sent) -> None:
    bench = Bench()
    bench[FIRST].does = does
    for _ in range(5):  # and the route is none the worse for it
        assert await bench.send() == replace(does, via=FIRST)
    assert bench.had == [5, 0, 0]


async def test_what_the_first_route_can_never_send_is_dead() -> None:
    bench = Bench()
    bench[FIRST].does = Unsendable("too large")
    for _ in range(5):
        with pytest.raises(Unsendable):
            await bench.send()
    assert bench.had == [5, 0, 0]


async def test_what_a_route_can_never_send_in_the_place_of_another_waits_for_that_one() -> None:
    """Guarantee: fail-over makes no mail dead that its own route would have taken."""
    bench = Bench()
    bench[FIRST].does = TransportError("down")
    bench[SECOND].does = bench[LAST].does = Unsendable("too large")
    with pytest.raises(TransportError, match="down"):
        await bench.send()
    for _ in range(2):
        with pytest.raises(TransportError):
            await bench.send()
    with pytest.raises(ServerBusy) as caught:
        await bench.send()
    assert caught.value.after == 30
    bench[LAST].does = None
    assert (await bench.send()).via == LAST


async def test_the_error_of_the_first_route_is_told_when_all_fail() -> None:
    bench = Bench()
    for place, name in enumerate((FIRST, SECOND, LAST)):
        bench[name].does = TransportError(f"down {place}")
    with pytest.raises(TransportError, match="down 0"):
        await bench.send()
    assert bench.had == [1, 1, 1]


async def test_no_account_anywhere_is_told_without_addresses() -> None:
    bench = Bench()
    for name in (FIRST, SECOND, LAST):
        bench[name].does = refused(530)
    with pytest.raises(TransportError, match=f"route {FIRST} does not take this worker: 530 about <address>"):
        await bench.send()


# --- routes that are left alone


async def test_a_route_that_failed_gets_no_mail_for_a_while() -> None:
    bench = Bench()
    bench[FIRST].does = TransportError("down")
    for _ in range(10):
        await bench.send()
    assert bench.had == [3, 10, 0]
    bench[FIRST].does = None
    bench.now += 30
    assert (await bench.send()).via == FIRST


async def test_one_mail_alone_tries_a_route_again() -> None:
    bench = Bench()
    bench[FIRST].does = Throttled("slower", after=60)
    await bench.send()
    bench.now += 60
    bench[FIRST].does = None
    bench[FIRST].gate.clear()
    trying = asyncio.create_task(bench.send())
    await asyncio.sleep(0)
    assert [(await bench.send()).via for _ in range(5)] == [SECOND] * 5
    bench[FIRST].gate.set()
    assert (await trying).via == FIRST == (await bench.send()).via


async def test_a_mail_that_is_cancelled_as_it_tries_a_route_leaves_that_to_the_next() -> None:
    bench = Bench()
    bench[FIRST].does = Throttled("slower", after=60)
    await bench.send()
    bench.now += 60
    bench[FIRST].does = None
    bench[FIRST].gate.clear()
    trying = asyncio.create_task(bench.send())
    await asyncio.sleep(0)
    trying.cancel()
    with pytest.raises(OutcomeUnknown):
        await trying
    bench[FIRST].gate.set()
    assert (await bench.send()).via == FIRST


@pytest.mark.parametrize(
    ("error", "kind", "after"),
    [
        (TransportError("down"), ServerBusy, 30),
        (ServerBusy("full"), ServerBusy, 5),
        (Throttled("slower", after=60), Throttled, 40),
    ],
)
async def test_when_every_route_is_left_alone_the_mail_waits_for_the_first_to_come_back(
    error: TransportError, kind: type[TransportError], after: float
) -> None:
    """Guarantee: such a mail costs no attempt, and no route is asked for it."""
    bench = Bench()
    bench[LAST].does = Throttled("slower", after=40)
    bench[FIRST].does = bench[SECOND].does = error
    for _ in range(3):
        with pytest.raises(TransportError):
            await bench.send()
    had = bench.had
    with pytest.raises(kind) as caught:
        await bench.send()
    assert isinstance(caught.value, ServerBusy | Throttled) and caught.value.after == after
    assert bench.had == had


async def test_only_the_routes_of_a_domain_are_waited_for_by_its_mails() -> None:
    bench = Bench(Router([Route("memory", domains="shop.example"), Route("file", domains="other.example")]))
    bench["memory"].does = Throttled("slower", after=40)
    for _ in range(2):
        with pytest.raises(ServerBusy) as caught:  # not Throttled: mails of the other domain go on
            await bench.send()
        assert caught.value.after == 40
    assert len(bench["memory"].had) == 1


async def test_a_mail_that_no_route_takes_is_tried_again() -> None:
    bench = Bench(Router([Route("memory", domains="other.example")]))
    with pytest.raises(TransportError, match=r"no route takes mails from shop\.example with the tag None"):
        await bench.send()


async def test_all_are_closed() -> None:
    bench = Bench()
    await bench.transport.close()
    assert all(each.closed for each in bench.fakes.values())
