"""The server's time as it is learnt from answers."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from jetq.jetstream.streams import server_clock as module
from jetq.jetstream.streams.server_clock import ServerClock


class World:
    """A machine whose clocks the test sets, and a server that is `ahead` of its wall clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steady, self.wall, self.server = 1000.0, 1_800_000_000.0, 1_800_000_000.0
        monkeypatch.setattr(module, "steady", lambda: self.steady)
        monkeypatch.setattr("time.time", lambda: self.wall)
        monkeypatch.setattr(module, "_reported", 0.0)
        self.clock = ServerClock()

    def pass_(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds
        self.server += seconds

    def ask(self, there: float = 0.001, back: float = 0.001) -> None:
        asked = self.steady
        self.pass_(there)
        said = datetime.fromtimestamp(self.server, UTC).isoformat()
        self.pass_(back)
        self.clock.learn(asked, {"ts": said})

    @property
    def off(self) -> float:
        return self.clock.now() - self.server


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_before_an_answer_it_is_this_machines(world: World) -> None:
    assert (world.clock.now(), world.clock.known) == (world.wall, False)


@pytest.mark.parametrize("answer", [{}, {"ts": None}, {"ts": "yesterday"}, {"ts": 7}])
def test_an_answer_without_a_time_teaches_nothing(answer: dict[str, Any], world: World) -> None:
    world.clock.learn(0.0, answer)
    assert not world.clock.known


def test_a_clock_that_no_answer_contradicts_is_believed(world: World) -> None:
    world.ask(0.3, 0.001)
    assert world.off == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("skew", [300.0, -300.0, 3600.0, -3600.0, 0.05, -0.05])
def test_a_clock_that_is_off_counts_for_no_more_than_an_answer_takes(skew: float, world: World) -> None:
    world.wall += skew
    world.ask(0.004, 0.002)
    assert abs(world.off) <= 0.006
    world.pass_(30)
    assert abs(world.off) <= 0.006


def test_a_slow_answer_does_not_make_it_worse(world: World) -> None:
    world.wall += 300
    world.ask(0.001, 0.001)
    world.pass_(1)
    world.ask(5.0, 4.0)
    assert abs(world.off) <= 0.005


def test_a_quick_answer_makes_it_better(world: World) -> None:
    world.wall += 300
    world.ask(5.0, 4.0)
    world.ask(0.001, 0.001)
    assert abs(world.off) <= 0.005


def test_this_machines_clock_may_jump(world: World) -> None:
    world.ask()
    world.wall += 3600
    assert abs(world.off) <= 0.002
    world.ask()
    assert abs(world.off) <= 0.005


def test_the_servers_clock_may_jump(world: World) -> None:
    world.ask()
    world.server -= 100
    world.ask()
    assert abs(world.off) <= 0.005


def test_a_clock_that_is_off_is_said_once_and_when_it_is_right_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "jetq.jetstream"):
        world.wall += 0.9
        world.ask()
        assert not caplog.records
        world.wall += 299.1
        world.ask()
        world.ask()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "300.0 s ahead of the NATS server's" in caplog.text
        world.wall -= 300
        world.ask()
        assert "agrees with the NATS server's again" in caplog.text
