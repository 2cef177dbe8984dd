"""The supervisor, on processes of a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jetq.worker.process.exit_status import in_words
from jetq.worker.process.supervisor import HOPELESS, IN_ORDER, NOT_IN_ORDER, RECYCLED, SERVES
from tests.apps.noting import whole_lines

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

CHILD = """
import os, signal, sys, time
notes = os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(what):
    os.write(notes, f"{{what}} {{os.getpid()}}\\n".encode())
lifeline = int(sys.argv[1])
def wait(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopped:
        time.sleep(0.01)
stopped = False
def stop(*_):
    global stopped
    stopped = True
    note("told")
signal.signal(signal.SIGTERM, stop)
note("start")
number = [line.split()[1] for line in open({notes!r})].index(str(os.getpid())) + 1
{body}
"""

SUPERVISOR = """
import sys, time
from pathlib import Path
from jetq.worker.process.supervisor import Supervisor
def changes(flag):
    while True:
        time.sleep(0.05)
        changed = flag.exists()
        flag.unlink(missing_ok=True)
        yield [flag] if changed else []
supervisor = Supervisor(
    lambda lifeline, announces: [sys.executable, {child!r}, str(lifeline)],
    processes={processes}, burst={burst}, grace={grace},
)
sys.exit(supervisor.run({changes}))
"""


class Tree:
    """A supervisor in a process of its own, and what its processes noted."""

    def __init__(self, directory: Path, body: str, **options: object) -> None:
        self.notes = directory / "notes"
        self.notes.touch()
        child = directory / "child.py"
        body = textwrap.dedent(body).strip()
        child.write_text(CHILD.format(notes=str(self.notes), body=body))
        chosen = {"processes": 1, "burst": False, "grace": 5.0, "changes": "None", **options}
        code = SUPERVISOR.format(child=str(child), **chosen)
        self.process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    def starts(self) -> list[int]:
        return self.noted("start")

    def noted(self, what: str) -> list[int]:
        return [int(line.split()[1]) for line in whole_lines(self.notes) if line.split()[0] == what]

    def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.notes.read_text()
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


Make = Callable[..., Tree]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Make]:
    made: list[Tree] = []

    def make(body: str, **options: object) -> Tree:
        made.append(Tree(tmp_path, body, **options))
        return made[-1]

    yield make
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        for pid in each.starts():
            if _alive(pid):
                os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


def test_a_process_that_dies_is_started_again(tree: Make) -> None:
    running = tree("os.kill(os.getpid(), signal.SIGKILL) if number < 3 else wait(60)", processes=1)
    running.until(lambda: len(running.starts()) == 3)
    assert running.end(signal.SIGTERM) == IN_ORDER


def test_all_end_in_order_at_the_first_signal(tree: Make) -> None:
    running = tree("wait(60); note('end')", processes=3)
    running.until(lambda: len(running.starts()) == 3)
    assert running.end(signal.SIGTERM) == IN_ORDER
    assert sorted(running.noted("end")) == sorted(running.starts())


def test_the_second_signal_cuts_what_does_not_end(tree: Make) -> None:
    running = tree("time.sleep(60)\nwait(60)\ntime.sleep(60)", processes=2)
    running.until(lambda: len(running.starts()) == 2)
    running.process.send_signal(signal.SIGINT)
    running.until(lambda: len(running.noted("told")) == 2)  # two of them at once would be one
    assert running.end(signal.SIGINT) == NOT_IN_ORDER
    assert not any(map(_alive, running.starts()))


def test_a_hopeless_first_start_ends_the_tree(tree: Make) -> None:
    running = tree("sys.exit(2) if number == 1 else wait(60)", processes=2)
    assert running.process.wait(20) == HOPELESS
    assert not any(map(_alive, running.starts()))


def test_what_ends_with_that_code_while_it_works_is_started_again(tree: Make) -> None:
    running = tree(f"os.write(lifeline, {SERVES!r}); sys.exit(2) if number == 1 else wait(60)", processes=2)
    running.until(lambda: len(running.starts()) == 3)
    assert [_alive(pid) for pid in running.starts()] == [False, True, True]
    assert running.end(signal.SIGTERM) == IN_ORDER


def test_a_recycled_process_is_replaced_at_once_and_a_burst_ends_with_its_last(tree: Make) -> None:
    running = tree(f"sys.exit({RECYCLED} if number < 6 else 0)", burst=True)
    assert running.process.wait(20) == IN_ORDER  # with a backoff, five replacements would take 15 s
    assert len(set(running.starts())) == 6


def test_a_burst_starts_again_what_failed(tree: Make) -> None:
    running = tree("sys.exit(1 if number == 1 else 0)", burst=True)
    assert running.process.wait(20) == IN_ORDER
    assert len(running.starts()) == 2


def test_a_change_starts_all_anew(tree: Make, tmp_path: Path) -> None:
    flag = tmp_path / "changed"
    running = tree("wait(60); note('end')", processes=2, changes=f"changes(Path({str(flag)!r}))")
    running.until(lambda: len(running.starts()) == 2)
    flag.touch()
    running.until(lambda: len(running.starts()) == 4)
    assert sorted(running.noted("end")) == sorted(running.starts()[:2])
    assert running.end(signal.SIGTERM) == IN_ORDER


def test_the_lifeline_ends_when_the_supervisor_is_killed(tree: Make) -> None:
    running = tree("os.read(lifeline, 1); note('orphan')", processes=2)
    running.until(lambda: len(running.starts()) == 2)
    running.process.kill()
    running.until(lambda: len(running.noted("orphan")) == 2)


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_how_a_process_ended_in_words(code: int, words: str) -> None:
    assert in_words(code) == words
