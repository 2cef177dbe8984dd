"""When a route is left alone, for how long, and how it comes back."""

from __future__ import annotations

import logging

import pytest

from jetq_email.errors import OutcomeUnknown, ServerBusy, Throttled, TransportError
from jetq_email.routing.breaker import Breaker

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Fleet:
    """What processes tell one another, as the fleet's own would."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.until: dict[str, float] = {}
        self.told: list[tuple[str, float]] = []

    async def left_for(self, route: str) -> float:
        return max(self.until.get(route, 0.0) - self.clock(), 0.0)

    async def leave(self, route: str, seconds: float) -> None:
        self.told.append((route, seconds))
        self.until[route] = max(self.until.get(route, 0.0), self.clock() + seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock)


async def fail(breaker: Breaker, times: int = 1, error: TransportError | None = None) -> float:
    """What the last of so many failures of the route has it left alone for."""
    left = 0.0
    for _ in range(times):
        left = await breaker.failed("a", error or TransportError("down"))
    return left


async def test_a_route_is_left_alone_after_failures_in_a_row(breaker: Breaker) -> None:
    assert await fail(breaker, 2) == 0 == await breaker.admit("a")
    await breaker.worked("a")
    assert await fail(breaker, 2) == 0 == await breaker.admit("a")
    assert await fail(breaker) == 30 == await breaker.admit("a")
    assert await breaker.admit("b") == 0


async def test_an_unknown_outcome_is_a_failure_too(breaker: Breaker) -> None:
    assert await fail(breaker, 3, OutcomeUnknown("silence")) == 30


async def test_then_one_mail_tries_it_and_the_others_follow(breaker: Breaker, clock: Clock) -> None:
    await fail(breaker, 3)
    clock.now += 30
    assert await breaker.admit("a") == 0
    assert 0 < await breaker.admit("a") <= 5  # they wait for that one
    await breaker.worked("a")
    assert [await breaker.admit("a") for _ in range(3)] == [0, 0, 0]


async def test_it_is_left_alone_for_longer_each_time_until_it_takes_a_mail(breaker: Breaker, clock: Clock) -> None:
    assert await fail(breaker, 3) == 30
    for seconds in (60, 120, 240, 300, 300):
        clock.now += await breaker.admit("a")
        assert await breaker.admit("a") == 0
        assert await fail(breaker) == seconds == await breaker.admit("a")
    clock.now += 300
    assert await breaker.admit("a") == 0
    await breaker.worked("a")
    assert await fail(breaker, 3) == 30


async def test_mails_that_were_under_way_when_it_was_left_alone_make_it_no_longer(breaker: Breaker) -> None:
    assert await fail(breaker, 100) == 30 == await breaker.admit("a")


async def test_a_mail_that_found_nothing_out_leaves_the_trial_to_the_next(breaker: Breaker, clock: Clock) -> None:
    await fail(breaker, 3)
    clock.now += 30
    assert await breaker.admit("a") == 0
    breaker.let_go("a")
    assert await breaker.admit("a") == 0
    assert await breaker.admit("a") > 0


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Throttled("slower", after=90), 90),
        (Throttled("slower", after=0), 1),
        (Throttled("slower"), 5),
        (ServerBusy("full"), 5),
        (ServerBusy("full", after=12), 12),
    ],
)
async def test_who_wants_fewer_is_left_alone_at_once_and_for_as_long_as_it_says(
    breaker: Breaker, clock: Clock, error: TransportError, seconds: float
) -> None:
    assert await fail(breaker, error=error) == seconds == await breaker.admit("a")
    assert breaker.is_throttled("a") is isinstance(error, Throttled)
    clock.now += seconds
    assert not breaker.is_throttled("a")
    assert await breaker.admit("a") == 0
    assert await breaker.admit("a") > 0
    await breaker.worked("a")
    assert await fail(breaker, 2) == 0


async def test_the_longest_wait_that_was_asked_for_holds(breaker: Breaker) -> None:
    await fail(breaker, error=Throttled("slower", after=90))
    await fail(breaker, error=Throttled("slower", after=10))
    assert await breaker.admit("a") == 90


async def test_the_fleet_is_told_and_heard(clock: Clock) -> None:
    """Guarantee: a route that fails in one process, which reaches another, is left alone by all of the fleet."""
    fleet = Fleet(clock)
    one, other = Breaker(fleet, clock), Breaker(fleet, clock)
    await fail(one, 10)
    clock.now += 10
    await one.worked("b")
    await one.worked("b")
    assert fleet.told == [("a", 20)]
    assert await other.admit("a") == 20
    clock.now += 20
    assert await other.admit("a") == 0
    assert await other.admit("a") > 0  # one mail of each process tries it
    assert await fail(other) == 30
    await other.worked("b")
    assert await one.admit("a") == 30


async def test_a_process_that_reaches_nobody_stops_no_other(clock: Clock) -> None:
    """Guarantee: the fleet does not leave its routes alone because one of its workers has lost its network."""
    fleet = Fleet(clock)
    breaker = Breaker(fleet, clock)
    await breaker.worked("b")
    for _ in range(3):
        for route in ("a", "b"):
            await breaker.failed(route, TransportError("no network"))
    clock.now += 40
    await breaker.worked("a")  # it is back
    assert fleet.told == []


async def test_the_fleet_is_told_at_once_what_a_provider_asks_for(clock: Clock) -> None:
    fleet = Fleet(clock)
    breaker = Breaker(fleet, clock)
    await breaker.failed("a", ServerBusy("full"))  # for this process, maybe
    await breaker.failed("a", Throttled("slower", after=60))
    await breaker.worked("b")
    assert fleet.told == [("a", 60)]


async def test_the_log_tells_it_once(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jetq.email")
    await fail(breaker, 20)
    clock.now += 30
    await breaker.admit("a")
    await breaker.worked("a")
    await breaker.worked("a")
    assert caplog.messages == ["mail route a is left alone for 30 s: down", "mail route a takes mails again"]
