"""Fixtures of all tests: the asyncio backend, and real nats-servers."""

from __future__ import annotations

import functools
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers import NatsServer, NatsServerFactory

# A shell lets what it runs in the background ignore it, and so would all that tests start, and are to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A property says nothing of time, and on a busy machine the first example alone may take longer than hypothesis allows.
hypothesis.settings.register_profile("jetq", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("jetq")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_session_is_left() -> Iterator[None]:
    """Fails a test that does not close its app: jetq's own thread would look for the server in all later tests."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "jetq-session" and thread not in before]
    assert not left, "a session was not closed"


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A nats-server with JetStream, shared by the whole run: use a namespace of your own."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server.url
    server.stop()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServerFactory]:
    """Starts nats-servers of the test's own; all are stopped at its end."""
    started: list[NatsServer] = []

    def start(config: str = "", *, jetstream: bool = True, port: int = 0) -> NatsServer:
        server = NatsServer(tmp_path / f"nats-{len(started)}", config=config, jetstream=jetstream, port=port)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


_FAULTS_WITHIN = 180
"""Seconds. Many wait for leases, and some work for most of a minute on a machine that does nothing else."""


_ADDRESS = re.compile(r" at 0x[0-9a-f]+|\bid='\d+'")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The processes that run the tests must agree on names, and an address is another one in each.
    if unstable := [item.nodeid for item in items if _ADDRESS.search(item.nodeid)]:
        raise pytest.UsageError(f"{unstable[0]}: give it an id without an address")
    faults = Path(__file__).parent / "faults"
    for item in items:
        if faults in item.path.parents:
            item.add_marker(pytest.mark.faults)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_FAULTS_WITHIN))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no worker of this process can run is dead after a second, as elsewhere after ten minutes."""
    from jetq.worker.attempts import handover, loading
    from jetq.worker.policy import put_off

    monkeypatch.setattr(loading, "put_off", functools.partial(put_off, patience=1.0))
    monkeypatch.setattr(handover, "SETTLED_AFTER", 0.0)
