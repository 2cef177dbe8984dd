"""The pytest plugin: `jetq_app` and `jetq_inline` in memory, `jetq_server` and `jetq_app_real` on a real nats-server.

Every pytest run in an environment with jetq loads it, so what the fixtures need is imported where they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jetq.server import LocalServer
    from jetq.testing import AppTester, ServerTester

__all__ = ["jetq_app", "jetq_app_real", "jetq_inline", "jetq_server"]


@pytest.fixture
def jetq_app() -> Iterator[AppTester]:
    """The default app on a broker in memory, empty at first: see what is enqueued, run it, let time pass.

    For another app, define the fixture anew: `with jetq.testing.in_memory(my_app) as tester: yield tester`.
    """
    from jetq.testing import in_memory

    with in_memory() as tester:
        yield tester


@pytest.fixture
def jetq_inline() -> Iterator[AppTester]:
    """The default app in memory, each of whose jobs runs before its `.delay` returns. See `jetq.testing.inline`."""
    from jetq.testing import inline

    with inline() as tester:
        yield tester


@pytest.fixture(scope="session")
def jetq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A nats-server of the run's own, on a free port of the loopback interface. Needs the extra `server`."""
    from jetq.server import LocalServer

    with LocalServer(tmp_path_factory.mktemp("jetq-server"), port=0) as server:
        yield server


@pytest.fixture
def jetq_app_real(jetq_server: LocalServer) -> Iterator[ServerTester]:
    """The default app on a real nats-server, in a namespace of its own, in real time."""
    from jetq.testing import on_server

    with on_server(jetq_server.url) as tester:
        yield tester
