"""What facts mean to `jetq doctor`, where they cannot be planted in a real server."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from jetq.model.deployment_facts import Monitored, ServerFacts, StreamFacts, Survey, Usage
from jetq.model.queue_info import QueueInfo
from jetq.model.worker_status import WorkerStatus
from jetq.operations.doctor.findings import Fleet, about_fleet, about_server, about_store, durability

SERVER = ServerFacts("nats://n:4222", "2.15.1", 2**20, True, True, False, False, False, 0.0, 0.001)
QUEUE = QueueInfo("mail", ready=0, running=0, scheduled=0, dead=0, waiting=1)
WORKER = WorkerStatus("w", "host", 1, "1.0", 0.0, slots=4, busy=0, missing_tasks=(), now=100.0)
FLEET = Fleet(QUEUE, (WORKER,), asked=100.0)
JOBS = StreamFacts("MAIL_JOBS", "mail", "jobs")


def server_codes(server: ServerFacts, *usage: Usage) -> list[str]:
    return [finding.code for finding in about_server(server, usage, ())]


def fleet_codes(*fleets: Fleet, declared: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    found = about_fleet(fleets, {"mail": declared}, "1.0")
    return [(finding.severity, finding.code) for finding in found]


@pytest.mark.parametrize(
    ("server", "codes"),
    [
        (SERVER, []),
        (replace(SERVER, encrypted=False), ["clear-text"]),
        (replace(SERVER, authenticated=False), ["no-authentication"]),
        (replace(SERVER, encrypted=False, authenticated=False, local=True), []),
        (replace(SERVER, encrypted=False, authenticated=False, local=True, exposed=True), ["no-authentication"]),
        (replace(SERVER, exposed=True), []),
        (replace(SERVER, max_payload=2**18), []),
        (replace(SERVER, max_payload=2**18 - 1), ["small-payload"]),
        (replace(SERVER, clock=1.0), []),
        (replace(SERVER, clock=1.1), ["clock"]),
        (replace(SERVER, clock=-1.1), ["clock"]),
        (replace(SERVER, clock=3.0, clock_error=2.5), []),
    ],
)
def test_a_server_as_it_is_reached(server: ServerFacts, codes: list[str]) -> None:
    assert server_codes(server) == codes


@pytest.mark.parametrize(
    ("directory", "codes"),
    [
        ("/tmp/nats/jetstream", ["temporary-store"]),
        ("/var/tmp/js", ["temporary-store"]),
        ("/var/lib/nats/jetstream", []),
        ("/tmpfiles/jetstream", []),
        ("", []),
    ],
)
def test_a_store_that_may_be_cleared(directory: str, codes: list[str]) -> None:
    monitored = [Monitored("http://n", directory, 0.0, Usage("x", 0, None))]
    assert [finding.code for finding in about_server(SERVER, (), monitored)] == codes


@pytest.mark.parametrize(
    ("usage", "codes"),
    [
        (Usage("x", 10**9, None), []),
        (Usage("x", 79, 100), []),
        (Usage("x", 80, 100), ["storage-low"]),
        (Usage("x", 95, 100), ["storage-full"]),
        (Usage("x", 5, 0), ["storage-full"]),
        (Usage("x", 9, 10, bytes=False), []),
        (Usage("x", 10, 10, bytes=False), ["limit-reached"]),
    ],
)
def test_limits_are_told_before_they_bite(usage: Usage, codes: list[str]) -> None:
    assert server_codes(SERVER, usage) == codes


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        (FLEET, []),
        (replace(FLEET, queue=replace(QUEUE, paused_until=math.inf)), [("note", "paused")]),
        (replace(FLEET, queue=replace(QUEUE, dead=3)), [("note", "dead-letters")]),
        (replace(FLEET, overdue=3), [("warning", "overdue")]),
        (replace(FLEET, workers=()), [("note", "no-worker")]),
        (replace(FLEET, workers=(), queue=replace(QUEUE, scheduled=1)), [("warning", "no-worker")]),
        (replace(FLEET, workers=(), waiting=frozenset({"tick"})), [("warning", "no-worker")]),
        (replace(FLEET, workers=(), queue=replace(QUEUE, running=1)), [("problem", "no-worker")]),
        (replace(FLEET, workers=(replace(WORKER, stopping=True),)), [("note", "no-worker")]),
        (replace(FLEET, workers=(replace(WORKER, version="0.9"),)), [("warning", "versions")]),
        (replace(FLEET, workers=(replace(WORKER, version=""),)), []),
        (replace(FLEET, workers=(replace(WORKER, now=101.1),)), [("warning", "clock")]),
        (replace(FLEET, workers=(replace(WORKER, now=None),)), []),
    ],
)
def test_jobs_and_workers(fleet: Fleet, expected: list[tuple[str, str]]) -> None:
    assert fleet_codes(fleet) == expected


def test_a_task_is_unknown_only_if_every_live_worker_says_so() -> None:
    lacking = replace(WORKER, missing_tasks=("t",))
    waiting = replace(FLEET, waiting=frozenset({"t"}))
    assert fleet_codes(replace(waiting, workers=(lacking,))) == [("problem", "unknown-task")]
    assert fleet_codes(replace(FLEET, workers=(lacking,)), declared=("t",)) == [("warning", "unknown-task")]
    assert fleet_codes(replace(waiting, workers=(lacking, replace(WORKER, worker="other")))) == []
    of_old = replace(WORKER, worker="old", missing_tasks=None)
    assert fleet_codes(replace(waiting, workers=(lacking, of_old))) == []
    assert fleet_codes(replace(waiting, workers=(lacking, replace(of_old, stopping=True)))) == [
        ("problem", "unknown-task")
    ]


def test_a_worker_of_several_queues_is_judged_once() -> None:
    slow = replace(FLEET, workers=(replace(WORKER, now=0.0),))
    assert fleet_codes(slow, replace(slow, queue=replace(QUEUE, name="other"))) == [("warning", "clock")]


def test_a_queue_of_the_app_that_is_not_made_is_a_note_and_others_are_nothing() -> None:
    streams = [
        StreamFacts("MAIL_JOBS", "mail", "jobs", "missing"),
        StreamFacts("MAIL_DLQ", "mail", "dead-letters", "missing"),
    ]
    shared = [StreamFacts("JETQ_RESULTS", "", "results", "missing"), StreamFacts("JETQ_STATE", "", "state", "missing")]
    nothing_yet = Survey(SERVER, streams=(*streams, *shared))
    assert [(each.severity, each.code) for each in about_store(nothing_yet, {"mail"})] == [("note", "no-queue")]
    assert not list(about_store(Survey(SERVER, streams=tuple(shared)), set()))


def test_dead_jobs_without_room_for_their_letters_are_named() -> None:
    (finding,) = about_store(Survey(SERVER, roomless=(("mail", ("a", "b")),)), set())
    assert (finding.severity, finding.code, finding.about) == ("problem", "no-room", "mail")
    assert finding.message.endswith(": a, b")


def test_streams_that_answer_nothing_are_without_a_leader() -> None:
    (finding,) = about_store(Survey(SERVER, streams=(replace(JOBS, state="silent"),)), set())
    assert (finding.severity, finding.code, finding.about) == ("problem", "no-leader", "MAIL_JOBS")


@pytest.mark.parametrize(
    ("streams", "monitored", "wanted", "kind", "words"),
    [
        ([], [], 1, "single", "2 minutes"),
        ([], [], 3, "replicated", "loss of 1 server"),
        ([JOBS], [], 3, "single", "2 minutes"),
        ([JOBS, replace(JOBS, storage="memory")], [], 1, "memory", "loses them"),
        ([replace(JOBS, replicas=2)], [], 1, "replicated", "loss of 0 servers"),
        ([replace(JOBS, replicas=5)], [], 1, "replicated", "loss of 2 servers"),
        ([replace(JOBS, replicas=5), JOBS], [], 1, "single", "2 minutes"),
        ([JOBS], [0.0], 1, "synced", "survives a power cut"),
        ([JOBS], [0.0, 90.0], 1, "single", "the last 1m 30s"),
        ([replace(JOBS, role="dead-letters", storage="memory")], [], 1, "single", "2 minutes"),
    ],
)
def test_the_durability_is_that_of_the_weakest_stream_of_jobs(
    streams: list[StreamFacts], monitored: list[float], wanted: int, kind: str, words: str
) -> None:
    asked = [Monitored("http://n", "/data", interval, Usage("x", 0, None)) for interval in monitored]
    found = durability(streams, asked, wanted)
    assert found.kind == kind
    assert words in found.text
