"""What is stored names jetq's exceptions without the module they live in, and old names with one are still read."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest

import jetq
from jetq.encoding.failures import capture, in_a_line, revive, type_name
from jetq.encoding.headers import META_HEADER, read_meta
from jetq.errors import JobTimeout, TaskFailed
from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import Failure
from jetq.model.result import ResultRecord
from jetq.operations.dead_letters import DeadFilter
from tests.unit.operations.test_dead_letters import letter

OWN = sorted(
    {
        kind
        for found in pkgutil.walk_packages(jetq.__path__, "jetq.")
        if not found.name.endswith(("__main__", "_child"))
        for kind in vars(importlib.import_module(found.name)).values()
        if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__.startswith("jetq.")
    },
    key=lambda kind: kind.__qualname__,
)
TIMEOUT = b'{"type":"jetq.errors.JobTimeout","message":"it ran longer than 3 s","args":["it ran longer than 3 s"]}'
DIED = b'{"type":"jetq.process_pool.ProcessDied","message":"exit code 3"}'


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__qualname__)
def test_a_class_of_jetq_is_named_without_its_module(kind: type[BaseException]) -> None:
    assert type_name(kind) == f"jetq.{kind.__qualname__}"


def test_no_two_classes_of_jetq_bear_one_name_in_public() -> None:
    public = [kind.__qualname__ for kind in OWN if not kind.__qualname__.startswith("_")]
    assert len(public) == len(set(public))


def test_what_is_captured_is_stored_without_a_module() -> None:
    assert b'"type":"jetq.JobTimeout"' in msgspec.json.encode(capture(JobTimeout("too long")))


@pytest.mark.parametrize("name", ["jetq.errors.JobTimeout", "jetq.JobTimeout"])
def test_a_timeout_is_raised_as_itself_under_either_name(name: str) -> None:
    error = revive(msgspec.json.decode(TIMEOUT.replace(b"jetq.errors.JobTimeout", name.encode()), type=Failure))
    assert type(error) is JobTimeout
    assert str(error) == "it ran longer than 3 s"


def test_an_old_result_is_read_under_the_new_name() -> None:
    record = msgspec.json.decode(
        b'{"id":"a","state":"dead","task":"t","queue":"q","attempt":1,"sequence":1,"at":1.0,"failure":%b}' % DIED,
        type=ResultRecord,
    )
    assert record.failure is not None
    assert in_a_line(record.failure) == "jetq.ProcessDied: exit code 3"
    error = revive(record.failure)
    assert isinstance(error, TaskFailed)
    assert error.type == "jetq.ProcessDied"


def test_an_old_dead_letter_is_read_and_found_under_both_names() -> None:
    plain = letter("a", task="tasks.f")
    stored = msgspec.json.encode(plain).replace(msgspec.json.encode(plain.failure), DIED)
    old = msgspec.json.decode(stored, type=DeadLetter)
    assert old.failure.type == "jetq.ProcessDied"
    assert b"process_pool" not in msgspec.json.encode(old)
    for asked in ("ProcessDied", "jetq.ProcessDied", "jetq.process_pool.ProcessDied"):
        assert DeadFilter(error=asked).fits(old), asked


def test_errors_of_earlier_attempts_are_read_under_the_new_name() -> None:
    errors = '[{"attempt":1,"type":"jetq.errors.JobTimeout","message":"m","at":1.0}]'
    meta = read_meta({META_HEADER: f'{{"attempt":2,"errors":{errors}}}'})
    assert [error.type for error in meta.errors] == ["jetq.JobTimeout"]


@pytest.mark.parametrize("name", ["jetq_email.errors.ServerBusy", "jetqx.errors.Gone", "tasks.jetq.Gone", "jetq"])
def test_classes_of_others_keep_their_modules(name: str) -> None:
    assert Failure(type=name, message="").type == name
