"""Which app a `@task` that names none goes to, where a process has several."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from jetq import Jetq, Worker
from jetq.client.app import _app_of, _default
from jetq.client.default_app import _serving, serves
from jetq.errors import DefinitionError


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Jetq:
    """The first app made, of a process that has no other yet."""
    monkeypatch.setattr(_default, "_app", None)
    monkeypatch.setattr(_default, "_from_environment", False)
    monkeypatch.setattr(_default, "chosen", False)
    return Jetq(namespace="first")


@pytest.fixture
def shop() -> Iterator[types.ModuleType]:
    """A module with a function that is a task."""
    module = types.ModuleType("whose_shop")
    exec("def charge(): ...", module.__dict__)
    sys.modules["whose_shop"] = module
    yield module
    del sys.modules["whose_shop"]


def app_of(shop: Any) -> Jetq:
    return _app_of(shop.charge)()


def test_it_goes_to_the_first_app_made(first: Jetq, shop: types.ModuleType) -> None:
    Jetq(namespace="second")
    assert app_of(shop) is first


def test_it_does_not_go_to_another_app_than_its_modules_own(first: Jetq, shop: types.ModuleType) -> None:
    shop.app = Jetq(namespace="second")  # type: ignore[attr-defined]
    with pytest.raises(DefinitionError, match=r"charge names no app.*'first'; its module has another.*'second'"):
        app_of(shop)


def test_another_app_of_the_same_place_is_as_good(first: Jetq, shop: types.ModuleType) -> None:
    shop.app = Jetq(namespace="first")  # type: ignore[attr-defined]
    assert app_of(shop) is first


class Working:
    """A worker, as far as that matters here."""

    def __init__(self, app: Jetq) -> None:
        self.app = app
        self.seen: object = None

    @serves
    async def run(self) -> None:
        self.seen = self.call()

    def call(self) -> object:
        raise NotImplementedError


def in_worker_of(app: Jetq, call: Any) -> object:
    worker = Working(app)
    worker.call = call  # type: ignore[method-assign]
    asyncio.run(worker.run())
    assert _serving == []
    return worker.seen


def test_where_a_worker_runs_it_goes_to_that_ones_app(first: Jetq, shop: types.ModuleType) -> None:
    """Guarantee: outside of jobs too, as in a lifespan, a call goes where a worker that lists its task takes it."""
    second = Jetq(namespace="second")
    whose = _app_of(shop.charge)
    assert whose() is first
    assert in_worker_of(second, whose) is second
    assert in_worker_of(first, whose) is first
    assert whose() is first


def test_of_workers_of_two_others_none_is_guessed(first: Jetq, shop: types.ModuleType) -> None:
    second, third = Jetq(namespace="second"), Jetq(namespace="third")
    with pytest.raises(DefinitionError, match="no worker here serves that"):
        in_worker_of(second, lambda: in_worker_of_running(third, shop))


def in_worker_of_running(app: Jetq, shop: types.ModuleType) -> object:
    _serving.append(app)
    try:
        return app_of(shop)
    finally:
        _serving.remove(app)


def test_a_worker_says_so_while_it_runs() -> None:
    assert hasattr(Worker.run, "__wrapped__")
