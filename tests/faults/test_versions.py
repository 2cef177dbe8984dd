"""An older version of the package and this one on the same queues, as while a new one is rolled out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jetq.encoding.headers import OFF_HEADER, job_headers
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import Failure
from jetq.model.job import JobRecord, Meta, Place
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.older import OLD, path_of, run_python
from tests.apps.workers import ROOT, WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

PLACE = Place("weekly-48", "ledger", "0192abcdef", "fetch", 7, 1000, 3, 4e9, 12, 1.7e9)


@pytest.mark.parametrize(
    ("producer", "workers"),
    [("old", ["new"]), ("new", ["old"]), ("old", ["old", "new"]), ("new", ["old", "new"])],
    ids=["old-to-new", "new-to-old", "old-to-both", "new-to-both"],
)
async def test_versions_mix(
    producer: str, workers: list[str], old: Path, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: what one version stores, the other runs once, and each reads the other's results and dead letters."""
    server = nats_server()
    paths = {"old": path_of(old), "new": str(ROOT)}
    async with harness(server.url, tmp_path) as h:
        running = [WorkerProcess(server.url, h.ledger, env={"PYTHONPATH": paths[each]}) for each in workers]
        try:
            told = json.loads(await run_python(h, paths[producer], "-m", "tests.apps.produce"))
            assert Path(told["jetq"]) == (old if producer == "old" else ROOT) / "jetq"
            assert told["results"] == list(range(70, 80))
            assert told["failures"] == ["attempt 4"] * 3
            # An older caller does not know the name that a newer worker stores: it has the error as a TaskFailed.
            assert told["timeout"] == "JobTimeout" or (producer == "old" and "new" in workers)
            await h.until_done(60.0)
            _check(h, told, lives=1)

            await run_python(h, paths[producer], "-m", "jetq", "dlq", "replay", "--all", "-q", "ledger")
            await h.until_done()
            _check(h, told, lives=2)
            dead = await h.dead()
            assert sorted(entry.letter.id for entry in dead) == sorted([*told["dead"], told["too_long"]])
            assert {entry.letter.failure.type for entry in dead} == {"builtins.ValueError", "jetq.JobTimeout"}
            for each in paths.values():
                shown = await run_python(h, each, "-m", "jetq", "dlq", "list", "-q", "ledger", "--json")
                assert all(id in shown for id in told["dead"])
        finally:
            for worker in running:
                worker.stop()
            for worker in running:
                with worker:
                    assert await asyncio.to_thread(worker.wait) == 0


@pytest.mark.parametrize("old", [OLD["before-packages"]], ids=["before-packages"], indirect=True)
async def test_an_older_worker_leaves_a_job_of_a_workflow_to_a_newer_one(
    old: Path, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: the release before neither runs such a job as a plain one, nor drops it or what it says; its command
    line does not replay it either."""
    server = nats_server()
    path = path_of(old)
    async with harness(server.url, tmp_path) as h:
        name, meta = "tests.apps.ledger_tasks.quick", Meta(flow=PLACE)
        job = JobRecord(PLACE.job_id, name, QUEUE, b'{"n":1}', meta=meta)
        await h.broker.enqueue(job)
        letter = DeadLetter(
            "0192abcdef:fetch:8", name, QUEUE, "-", "failed", Failure("builtins.ValueError", "no"), 4, 1.7e9, 1.7e9,
            f"jetq.ledger.run.{name.replace('.', ':')}.-.0192abcdef:fetch:8", 2, headers=job_headers(job),
        )  # fmt: skip
        assert await h.broker.import_dead(DeadEntry(letter, b'{"n":2}', 0))
        with WorkerProcess(server.url, h.ledger, env={"PYTHONPATH": path}) as worker:
            async with asyncio.timeout(60):
                while (found := await _put_off(h, job.id)) is None:
                    await asyncio.sleep(0.05)
            plain = await h.send("quick", 1)
            await h.until(lambda info: info.ready == info.running == 0)
            refused = await run_python(h, path, "-m", "jetq", "dlq", "replay", "--all", "-q", QUEUE, code=1)
            assert refused.startswith(f"error: not replayed, because a newer jetq has written it: {letter.id}")
            worker.stop()
            assert await asyncio.to_thread(worker.wait) == 0
        assert found["Jetq"] == job_headers(job)["Jetq"]
        assert [entry.id for entry in h.ledger.entries("finish")] == plain
        assert [entry.letter.headers for entry in await h.dead()] == [job_headers(job)]

        with WorkerProcess(server.url, h.ledger) as worker:
            await h.until_done(60.0)
            worker.stop()
            assert await asyncio.to_thread(worker.wait) == 0
        # The newer one has read it: its workflow is not stored.
        assert {entry.letter.id: entry.letter.reason for entry in await h.dead()} == {
            letter.id: "failed",
            job.id: "undecodable",
        }


async def _put_off(h: Harness, id: str) -> Mapping[str, str] | None:
    """The headers of a job that was put off; None before that."""
    found = await h.broker.find(QUEUE, id)
    assert found is not None
    return found.delivery.headers if OFF_HEADER in found.delivery.headers else None


def _check(h: Harness, told: dict[str, Any], *, lives: int) -> None:
    finishes = [entry.id for entry in h.ledger.entries("finish")]
    assert sorted(finishes) == sorted([*told["done"], told["asked_again"]])
    starts = [(entry.id, entry.attempt) for entry in h.ledger.entries("start") if entry.id in told["dead"]]
    assert sorted(starts) == sorted(
        (id, attempt) for id in told["dead"] for attempt in range(1, 5) for _ in range(lives)
    )
