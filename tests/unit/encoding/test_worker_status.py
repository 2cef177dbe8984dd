"""What workers are asked and what they answer: its names on the wire are those of every version."""

from __future__ import annotations

from jetq.encoding.worker_status import encode, read_answers, read_query
from jetq.model.worker_status import HeldJob, StatusQuery, WorkerStatus

QUERY = StatusQuery(id="a", task="t", only_holder=True, tasks=("t", "u"))
STATUS = WorkerStatus(
    worker="w",
    host="h",
    pid=1,
    version="0.1",
    since=1.5,
    slots=4,
    busy=2,
    queues=("q",),
    stopping=True,
    can_run=True,
    held=HeldJob(attempt=2, started=2.5, cancelled=True, waits="rate"),
    missing_tasks=("u",),
    now=3.5,
)


def test_a_query_has_the_names_that_every_version_reads() -> None:
    """Guarantee: workers of other versions are asked and answer as those of this one."""
    assert encode(QUERY) == b'{"id":"a","task":"t","holders":true,"tasks":["t","u"]}'
    assert read_query(encode(QUERY)) == QUERY


def test_an_answer_has_the_names_that_every_version_reads() -> None:
    assert encode(STATUS) == (
        b'{"worker":"w","host":"h","pid":1,"version":"0.1","since":1.5,"slots":4,"busy":2,"queues":["q"],"stopping":true,'
        b'"knows":true,"held":{"attempt":2,"started":2.5,"cancelled":true,"waits":"rate"},"lacks":["u"],"now":3.5}'
    )
    assert read_answers([encode(STATUS)]) == [STATUS]


def test_what_is_not_known_is_not_said() -> None:
    assert encode(StatusQuery()) == b"{}"
    told = encode(WorkerStatus("w", "h", 1, "", 1.5, slots=4, busy=0))
    assert told == b'{"worker":"w","host":"h","pid":1,"version":"","since":1.5,"slots":4,"busy":0}'
