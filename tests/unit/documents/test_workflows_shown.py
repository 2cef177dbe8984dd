"""The code of workflows that pages show without output runs, with the names that it takes for granted."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from jetq import Jetq
from jetq.testing import AppTester, in_memory
from tests.apps.fresh import no_app_yet, own_tasks
from tests.documents import ROOT, blocks, files

README = ROOT / "README.md"
COMPOSE = ROOT / "docs/how-to/compose-workflows.md"


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> Jetq:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    return Jetq()


def module(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Makes a module that can be imported by the test."""
    made = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(text, f"{name}.py", "exec"), made.__dict__)


VIDEOS = """
from jetq import task

@task
async def fetch(url: str) -> str: return url

@task
async def words(page: str) -> int: return len(page)

@task
async def total(counts: list[int]) -> int: return sum(counts)

@task
async def split(video: str) -> list[int]: return [1, 2]

@task
async def transcode(segment: int, codec: str) -> str: return f"{segment}.{codec}"

@task
async def concat(segments: list[str]) -> str: return "+".join(segments)
"""


def run(tester: AppTester, page: Any, has: str, **names: Any) -> dict[str, Any]:
    """Run the block of the page that has those words, without what waits for a worker."""
    (shown,) = [each.text for each in blocks(page) if each.language == "python" and not each.file and has in each.text]
    exec(shown.replace(".result(timeout=60)", ""), names)
    tester.run_until_empty()
    return names


def test_the_workflows_of_the_readme(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_memory(app) as tester:
        module(monkeypatch, "videos", VIDEOS)
        names = run(tester, README, "from videos import", urls=["a", "bc"], video="7")
        assert names["chord"].delay(id="again").status() == "running"
        tester.run_until_empty()
        assert names["chord"].delay(id="again").result(timeout=1) == 3
        assert names["concat"].bind([]).delay(id="video-7").result(timeout=1) == "1.h264+2.h264"


def test_how_a_workflow_is_started(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_memory(app) as tester:
        module(monkeypatch, "tasks", files(COMPOSE)["tasks.py"])
        work = run(tester, COMPOSE, 'work.delay(id="words-')["work"]
        assert work.delay(id="words-2030-01-07").result(timeout=1) == 4
        assert work.delay(key="words:example.com").disposition == "stored"  # the one before has ended
        assert work.delay(key="words:example.com").disposition == "existing"
        tester.advance(60)
        tester.run_until_empty()
        assert len(tester.enqueued("tasks.words")) == 0
