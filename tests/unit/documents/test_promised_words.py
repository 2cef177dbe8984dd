"""Words and numbers that pages promise are those of the code: the states, reasons and answers, and how long."""

from __future__ import annotations

import re
from inspect import signature
from typing import get_args

import pytest

from jetq import Job, errors
from jetq.broker import numbers
from jetq.encoding import failures
from jetq.model.definitions.options import TaskOptions
from jetq.model.failure import DeadReason
from jetq.model.job import Disposition, State
from jetq.model.workflows import plan
from jetq.model.workflows.failure import Reason
from jetq.model.workflows.plan import MOST_STEPS, PAGE
from jetq.model.workflows.records import WorkflowState
from jetq.operations.cancel import Cancellation
from jetq.operations.workflows.closing import KEEP_FAILED
from jetq.settings import Settings
from jetq.worker import policy
from jetq.worker.attempts.outcome_log import _WORDS
from jetq.worker.pools import threads
from tests.documents import ROOT

DOCS = ROOT / "docs"
QUOTED = r"[`\"]([\w-]+)[`\"]"
FIRST_CELL = r"^\| `([\w-]+)` \|"
PLAIN = r"\b(?!and\b|or\b)[\w-]+"


@pytest.mark.parametrize(
    ("page", "before", "after", "pattern", "words"),
    [
        ("how-to/results.md", "job.status()  # ", "\n", QUOTED, get_args(State)),
        ("how-to/see-what-a-job-does.md", "`status()` is one of ", ". `info()`", PLAIN, get_args(State)),
        ("how-to/come-from-celery.md", "| `job.status()`: ", " |", PLAIN, get_args(State)),
        ("how-to/dead-letters.md", "| reason | the job |", "## Find out", FIRST_CELL, get_args(DeadReason)),
        ("how-to/dead-letters.md", "| `--reason REASON` | ", " |", QUOTED, get_args(DeadReason)),
        ("how-to/cancel-and-reschedule.md", "| answer | |", "In any case", FIRST_CELL, get_args(Cancellation)),
        ("how-to/unique-jobs.md", "Its `disposition` is ", ". The key", QUOTED, get_args(Disposition)),
        (
            "how-to/compose-workflows.md",
            "`workflow.status()` is ",
            ". `workflow.steps()`",
            QUOTED,
            get_args(WorkflowState),
        ),
        ("how-to/come-from-celery.md", "| `workflow.status()`: ", " |", PLAIN, get_args(WorkflowState)),
        ("how-to/handle-failures-of-workflows.md", "`reason` is ", ". Of a job", r"`([\w-]+)`", get_args(Reason)),
        ("how-to/deploy.md", "Outcomes are ", "jetq logs", r"`(?!--)([\w-]+)`", tuple(_WORDS.values())),
    ],
)
def test_a_list_of_words_has_all_of_them_and_no_other(
    page: str, before: str, after: str, pattern: str, words: tuple[str, ...]
) -> None:
    _, found, rest = (DOCS / page).read_text("utf-8").partition(before)
    assert found
    assert set(re.findall(pattern, rest.partition(after)[0], re.MULTILINE)) == set(words)


def test_what_a_result_raises_is_what_the_page_says() -> None:
    table = (DOCS / "how-to/results.md").read_text("utf-8").partition("| raised |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "".join(line.split(" | ")[0] for line in table.splitlines())))
    said = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", str(Job.result.__doc__)))
    assert said <= named
    results = {name for name in errors.__all__ if issubclass(getattr(errors, name), errors.ResultError)}
    assert results <= named
    assert all(hasattr(errors, name) for name in named)


OPTIONS = TaskOptions()
SETTINGS = Settings()

NUMBERS = [
    ("how-to/retry.md", "run again, three times in all", OPTIONS.max_attempts, 3),
    ("how-to/retry.md", "`timeout=300.0` bounds one attempt", OPTIONS.timeout, 300.0),
    ("how-to/retry.md", "After `max_crashes=3` such starts", OPTIONS.max_crashes, 3),
    ("how-to/retry.md", "What still runs 10 s later is given up", threads._LOST_AFTER, 10.0),
    ("how-to/results.md", "It is kept for an hour", OPTIONS.result_ttl, 3600.0),
    ("how-to/come-from-celery.md", "kept for an hour", OPTIONS.result_ttl, 3600.0),
    ("how-to/come-from-celery.md", "three attempts with backoff", OPTIONS.max_attempts, 3),
    ("how-to/come-from-celery.md", "300 s for each attempt", OPTIONS.timeout, 300.0),
    (
        "how-to/come-from-celery.md",
        "waits 60 s: `job.result",
        signature(Job.result).parameters["timeout"].default,
        60.0,
    ),
    ("how-to/come-from-celery.md", "a lease of `ack_wait`, 30 s", SETTINGS.ack_wait, 30.0),
    ("how-to/come-from-celery.md", "1 MiB less 32 KiB", numbers.HEADROOM, 32 * 1024),
    ("how-to/limit.md", "they are free after `ack_wait`, 30 s", SETTINGS.ack_wait, 30.0),
    ("how-to/connect.md", "gives up after `connect_timeout` (5 s)", SETTINGS.connect_timeout, 5.0),
    ("how-to/dead-letters.md", "kept for 30 days (`dead_letter_ttl`)", SETTINGS.dead_letter_ttl, 30 * 86400.0),
    ("how-to/dead-letters.md", "the first and the last nine", (failures._KEPT_FIRST, failures._KEPT_LAST), (1, 9)),
    ("how-to/dead-letters.md", "300 characters of each message", failures._SUMMARY, 300),
    ("how-to/dead-letters.md", "no worker knew for 10 minutes", policy._PATIENCE, 600.0),
    ("how-to/deploy.md", "no worker was known for 10 minutes", policy._PATIENCE, 600.0),
    (
        "how-to/cancel-and-reschedule.md",
        "within `timeout`, 10 s",
        signature(Job.cancel).parameters["timeout"].default,
        10.0,
    ),
    ("how-to/compose-workflows.md", "inner group has at most 1,000", PAGE, 1_000),
    ("how-to/compose-workflows.md", "a workflow has at most 1,000", MOST_STEPS, 1_000),
    ("how-to/compose-workflows.md", "no step begins any more, 31 days without it", plan.EXPIRES, 31 * 86_400.0),
    ("how-to/compose-workflows.md", "A workflow that has failed is kept for 31 days", KEEP_FAILED, 31 * 86_400.0),
    ("explanation/guarantees.md", "none was known for in 10 minutes", policy._PATIENCE, 600.0),
    ("explanation/guarantees.md", "with `publish_timeout` at its 10 s", SETTINGS.publish_timeout, 10.0),
]


@pytest.mark.parametrize(
    ("page", "words", "value", "number"), NUMBERS, ids=[f"{each[0]} {each[1]}" for each in NUMBERS]
)
def test_a_number_of_a_page_is_that_of_the_code(page: str, words: str, value: object, number: object) -> None:
    assert words in " ".join((DOCS / page).read_text("utf-8").split())
    assert value == number
