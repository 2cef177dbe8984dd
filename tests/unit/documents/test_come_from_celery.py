"""The page for users of Celery: what it says to write can be written, and every concept of Celery has its row."""

from __future__ import annotations

import asyncio
import doctest
import re
import sys
import types
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tenacity import wait_exponential

import jetq
import jetq.testing
from jetq import Jetq
from jetq.migration_hints import OPTIONS, _None, _Option
from jetq.settings import Settings
from jetq.testing import in_memory, plugin
from tests.apps.fresh import no_app_yet, own_tasks
from tests.documents import ROOT, blocks, check_command_line, files

PAGE = ROOT / "docs/how-to/come-from-celery.md"

NO_CODE = {
    *("`NATS_URL`", "`ack_wait`", "`async def`", "`return`", "`except Exception`", "`None`"),
    *("`\\|`", "`.out`", "`Failure`"),
    *("`CancelledError`", "`Interruption`", "`GET /live`", "`jetq_app`", "`jetq_inline`", "`@task`"),
}
"""Words in backticks that are no code to run."""


def rows() -> list[tuple[str, str]]:
    """What stands for Celery and for jetq, in all tables."""
    text = PAGE.read_text("utf-8")
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:2] == "| "]
    found = [(row[-2] if len(row) == 2 else f"{row[0]} {row[1]}", row[-1]) for row in cells]
    return [row for row in found if row[1] not in ("jetq", "what to write today")]


ROWS = rows()


def codes(cell: str) -> list[str]:
    return re.findall(r"`[^`]+`", cell)


def add(x: int, y: int = 1) -> int:
    return x + y


def double(x: int, times: int = 2) -> int:
    return x * times


def total(numbers: list[int]) -> int:
    return sum(numbers)


def report(what: str) -> None: ...


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what a test defines."""
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)


def surroundings(app: Jetq) -> dict[str, Any]:
    """The names that the code of the tables takes for granted."""
    public = {name: getattr(jetq, name) for name in jetq.__all__}
    made = app.task(name="tasks.add")(add)
    many = made.delay_many(made.bind(n, 1) for n in range(3))
    doubled, summed, reported = (app.task(name=f"tasks.{fn.__name__}")(fn) for fn in (double, total, report))
    return {
        **public,
        "app": app,
        "add": made,
        "jetq": jetq,
        "job": many[0],
        "jobs": many,
        "double": doubled,
        "total": summed,
        "report": reported,
        "workflow": jetq.each(made, range(3)).delay(),
        "when": datetime.now(UTC) + timedelta(hours=1),
        "wait_exponential": wait_exponential,
        "middleware": [],
        "lifespan": None,
        "on_expired": None,
    }


def run(code: str) -> None:
    """Run code of a table as a user would: a decorator above a function, and the rest as it stands."""
    app = Jetq(queues=[jetq.Queue("default", levels="strict")])
    with in_memory(app) as tester:
        names = surroundings(app)
        tester.run_until_empty()
        code = code.replace("=[...]", "=[]").replace("=...", "=None")
        if code.startswith("@"):
            exec(f"{code}\ndef f(x: int = 1, y: int = 1) -> int: ...", names)
        elif code.startswith("raise "):
            kind = code.split()[1].partition("(")[0]
            with pytest.raises(getattr(jetq, kind)):
                exec(code, names)
        elif code.startswith("await "):
            exec(f"async def main():\n    return {code}", names)
            names["job"].result(timeout=1)
            asyncio.run(asyncio.wait_for(names["main"](), 5))
        elif "current_job()" in code:
            task = app.task(name="inside")(lambda_that(lambda: eval(code, names)))
            assert tester.perform(task).outcome == "succeeded"
        else:
            exec(code, names)


def lambda_that(work: Any) -> Any:
    def inside() -> None:
        assert work()

    return inside


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"[^\w ]", "", row[0])[:40])
def test_what_a_row_says_to_write_can_be_written(row: tuple[str, str]) -> None:
    for quoted in codes(row[1]):
        code = quoted.strip("`").replace("\\|", "|")  # which would end the cell
        if code.startswith("jetq "):
            check_command_line(code, whole=True)
        elif quoted not in NO_CODE:
            run(code)


def test_the_words_that_are_no_code_are_there() -> None:
    assert {quoted for _, ours in ROWS for quoted in codes(ours)} >= NO_CODE
    assert "ack_wait" in Settings.__struct_fields__
    assert hasattr(plugin, "jetq_app") and hasattr(plugin, "jetq_inline")
    assert issubclass(jetq.Interruption, BaseException) and not issubclass(jetq.Interruption, Exception)


def test_the_page_and_the_table_of_words_say_the_same() -> None:
    compared = 0
    for theirs, ours in ROWS:
        for word in re.findall(r"(?<![\w.])\w+", " ".join(codes(theirs))):
            meaning = OPTIONS.get(word)
            if isinstance(meaning, _Option) and "`raise " not in ours:
                compared += 1
                assert re.search(meaning.ours.partition("=")[0] + "=", ours) or "by default" in ours, (word, ours)
            elif isinstance(meaning, _None):
                assert not re.search(rf"\b{word}=", ours), (word, ours)
    assert compared >= 20


CONCEPTS = """
chain group chord map starmap chunks link link_error add.si on_error children propagate replace signals flower
events pool_grow autoscale base backend pickle bind self.retry self.request
autoretry_for retry_backoff max_retries acks_late visibility_timeout prefetch rate_limit time_limit soft_time_limit
task_routes signature result.get expires countdown eta priority ignore_result result_expires task_id send_task beat
crontab django-celery-beat django-celery-results on_commit DJANGO_SETTINGS_MODULE task_always_eager inspect revoke
purge prefork gevent solo threads max_tasks_per_child task_reject_on_worker_lost update_state track_started
shared_task autodiscover_tasks -A -l -Q -c multi SoftTimeLimitExceeded Ignore Reject celery-once AsyncResult
delay_on_commit close_old_connections
""".split()


@pytest.mark.parametrize("concept", CONCEPTS)
def test_every_concept_of_celery_is_there(concept: str) -> None:
    assert re.search(rf"(?<!\w){re.escape(concept)}|_{re.escape(concept)}", PAGE.read_text("utf-8"))


def modules(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[Any]:
    """The files that the page shows, imported in this order."""
    made = []
    for name in names:
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(files(PAGE)[f"{name}.py"], f"{name}.py", "exec"), module.__dict__)
        made.append(module)
    return made


def test_the_workflow_shown_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (shop,) = modules(monkeypatch, "shop")
    with in_memory(shop.app) as tester:
        id = shop.sell([7, 8, 9])
        assert tester.run_until_empty().succeeded == 7
        assert shop.book.bind([]).delay(id=id).result(timeout=1) == 3  # the handle of the one that stands


def test_the_errors_shown_are_those_that_are_raised() -> None:
    (shown,) = [block.text for block in blocks(PAGE) if block.language == "pycon"]
    examples = doctest.DocTestParser().get_examples(
        re.sub(r"^(\w+Error: )", r"Traceback (most recent call last):\n\1", shown, flags=re.MULTILINE)
    )
    assert len(examples) == 4
    made = jetq.task(name="tasks.add")(needs_both)
    for example in examples:
        with pytest.raises((ImportError, AttributeError, TypeError, jetq.JetqError)) as caught:
            exec(example.source, {"add": made, "task": jetq.task})
        assert f"{type(caught.value).__name__}: {caught.value}\n" == example.exc_msg


def needs_both(x: int, y: int) -> int:
    return x + y
