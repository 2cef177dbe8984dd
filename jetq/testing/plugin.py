"""The pytest plugin: `jetq_app` and `jetq_inline` in memory, `jetq_server` and `jetq_app_real` on a real nats-server.

Every pytest run in an environment with jetq loads this module, so each fixture imports what it needs when it is used.
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
    """Yield a tester of the default app on an empty broker in memory: see what is enqueued, run it, let time pass.

    For another app, define the fixture again: `with jetq.testing.in_memory(my_app) as tester: yield tester`.
    """
    from jetq.testing import in_memory

    with in_memory() as tester:
        yield tester


@pytest.fixture
def jetq_inline() -> Iterator[AppTester]:
    """Yield a tester of the default app in memory, in which each job runs before its `.delay` returns.

    See `jetq.testing.inline`.
    """
    from jetq.testing import inline

    with inline() as tester:
        yield tester


@pytest.fixture(scope="session")
def jetq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Yield a nats-server for this pytest run, on a free port of the loopback interface. It needs the extra
    `server`."""
    from jetq.server import LocalServer

    with LocalServer(tmp_path_factory.mktemp("jetq-server"), port=0) as server:
        yield server


@pytest.fixture
def jetq_app_real(jetq_server: LocalServer) -> Iterator[ServerTester]:
    """Yield a tester of the default app on a real nats-server, in a namespace of its own, in real time."""
    from jetq.testing import on_server

    with on_server(jetq_server.url) as tester:
        yield tester
