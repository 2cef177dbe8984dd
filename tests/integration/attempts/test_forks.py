"""A job that forks: its child ends when the job's code ends there, and holds nothing of the worker's."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import pytest

from jetq import Jetq, task
from jetq.runtime.forks import not_for_children
from jetq.testing import on_server
from tests.apps import process_tasks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")

LONG = 30.0


def ended(pid: int) -> int | None:
    """How a child has ended; None if it does not."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def exits() -> None:
    sys.exit(3)


def exits_with_words() -> None:
    sys.exit("no good")


def returns() -> None: ...


def raises() -> None:
    raise ValueError("in the child")


CHILDREN: list[tuple[Callable[[], None], int]] = [(exits, 3), (exits_with_words, 1), (returns, 0), (raises, 1)]


@task(name="forks-in-thread", max_attempts=1)
def in_thread(number: int) -> int | None:
    pid = os.fork()
    if pid == 0:
        CHILDREN[number][0]()
        return None
    return ended(pid)


@task(name="forks-on-loop", max_attempts=1)
async def on_loop(number: int) -> int | None:
    pid = os.fork()
    if pid == 0:
        CHILDREN[number][0]()
        return None
    return ended(pid)


@pytest.mark.parametrize("number", range(len(CHILDREN)))
@pytest.mark.parametrize("where", ["thread", "loop", "process"])
def test_its_child_ends_with_its_own_exit_code(nats_url: str, where: str, number: int) -> None:
    """Guarantee: a child that a job forks ends when the job's code does so there, and is no second worker."""
    forking = {"thread": in_thread, "loop": on_loop, "process": process_tasks.forks}[where]
    with on_server(nats_url, Jetq()) as tester:
        job = forking.options(result_ttl=60.0).delay(number)
        assert tester.run_until_empty().succeeded == 1
        assert job.result(timeout=LONG) == CHILDREN[number][1]


def tcp_sockets() -> int:
    """How many sockets of this process have a peer."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(number))) as found:
                found.getpeername()
                count += found.family in (socket.AF_INET, socket.AF_INET6)
        except OSError:
            continue
    return count


@task(name="counts-sockets", max_attempts=1)
def counts_sockets() -> tuple[int, int | None]:
    pid = os.fork()
    if pid == 0:
        os._exit(tcp_sockets())
    return tcp_sockets(), ended(pid)


@task(name="nothing")
def nothing() -> None: ...


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_its_child_holds_no_socket_of_the_worker(nats_url: str) -> None:
    """Guarantee: a child that outlives its worker keeps none of the worker's connections open."""
    with on_server(nats_url, Jetq()) as tester:
        nothing.delay()
        job = counts_sockets.options(result_ttl=60.0).delay()
        assert tester.run_until_empty().succeeded == 2
        own, child = job.result(timeout=LONG)
        assert own > 0
        assert child == 0


def test_a_socket_that_is_closed_or_gone_is_no_matter() -> None:
    ours, theirs = socket.socketpair()
    gone, other = socket.socketpair()
    for each in (ours, theirs, gone):
        not_for_children(each)
    theirs.close()
    gone.close()
    del gone
    pid = os.fork()
    if pid == 0:
        try:
            ours.send(b"x")
        except OSError:
            os._exit(7)
        os._exit(0)
    try:
        assert ended(pid) == 7
    finally:
        ours.close()
        other.close()
