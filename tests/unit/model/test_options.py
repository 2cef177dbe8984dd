"""The options of a task and of a call, and what becomes of them where the two meet."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from jetq import Jetq, task
from jetq.client.request import Request
from jetq.encoding.headers import META_HEADER, job_headers, read_meta
from jetq.model.definitions.options import (
    CARRIED,
    NO_SETTINGS,
    CallOptions,
    CallSettings,
    TaskOptions,
    effective_options,
)
from jetq.model.job import DEFAULT_META, JobRecord
from tests.apps.fresh import no_app_yet

GIVEN: dict[str, Any] = {
    "queue": "other",
    "max_attempts": 7,
    "timeout": None,
    "result_ttl": None,
    "expires": 60.0,
    "delay": 5.0,
    "at": datetime(2040, 1, 1, tzinfo=UTC),
    "id": "order-7",
    "key": "customer-7",
    "unique": "running",
    "replace": True,
    "max_wait": 30.0,
    "throttle": 10.0,
    "priority": "high",
}
"""A value for each option of a call, which is not what a task has without it."""

COMPANIONS: dict[str, tuple[str, ...]] = {
    "replace": ("key",),
    "max_wait": ("key", "replace"),
    "throttle": ("key",),
    "unique": ("key",),
}
"""Options that another cannot do without."""

MEETING = sorted({*CallSettings.__struct_fields__} & {*TaskOptions.__struct_fields__} - {"key"})


@pytest.mark.parametrize("name", MEETING)
def test_what_a_call_says_wins_over_its_task(name: str) -> None:
    options = effective_options(TaskOptions(), CallSettings(**{name: GIVEN[name]}))
    assert options == replace(TaskOptions(), **{name: GIVEN[name]})


@pytest.mark.parametrize("name", MEETING)
def test_where_a_call_says_nothing_its_task_does(name: str) -> None:
    options = replace(TaskOptions(), **{name: GIVEN[name]})
    assert effective_options(options, NO_SETTINGS) is options
    assert effective_options(options, CallSettings(queue="other", delay=5.0)) is options


@pytest.mark.parametrize("name", CARRIED)
def test_a_job_carries_what_its_worker_needs_of_its_call(name: str) -> None:
    meta = CallSettings(**GIVEN).carrying()
    read = read_meta(job_headers(JobRecord("1", "task", "default", b"{}", meta=meta)))
    assert getattr(effective_options(TaskOptions(), CallSettings.carried_by(read)), name) == GIVEN[name]


def test_a_call_without_options_carries_nothing() -> None:
    assert CallSettings(delay=5.0).carrying() is DEFAULT_META
    assert META_HEADER not in job_headers(JobRecord("1", "task", "default", b"{}"))
    assert CallSettings.carried_by(DEFAULT_META) is NO_SETTINGS
    assert CallSettings.carried_by(replace(DEFAULT_META, attempt=2)) is NO_SETTINGS


@task(name="options.count", max_attempts=2)
def count() -> int:
    return 1


def stored(names: Iterable[str]) -> Request:
    options: Any = {name: GIVEN[name] for name in names}
    request = count.options(**options).bind().request(1_000.0)
    return request if "id" in names else replace(request, job=replace(request.job, id="any"))


@pytest.mark.parametrize("name", CallSettings.__struct_fields__)
def test_every_option_of_a_call_changes_what_is_stored(name: str) -> None:
    companions = COMPANIONS.get(name, ())
    assert stored([*companions, name]) != stored(companions)


def test_every_option_of_a_call_that_can_be_written_is_tried_here() -> None:
    assert CallOptions.__annotations__.keys() == GIVEN.keys() == {*CallSettings.__struct_fields__}


def test_a_call_that_is_sent_by_name_is_the_call_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    no_app_yet(monkeypatch)
    by_name = Jetq().call("options.count", max_attempts=7, priority="high")
    assert by_name == count.options(max_attempts=7, priority="high").bind()
