"""An older version of the package and this one on the same queues, as while a new one is rolled out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.apps.harness import Harness, harness
from tests.apps.workers import ROOT, WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

OLD = {"before-sealing": "3dfc16b552", "before-packages": "2441516"}
"""The commits the older packages are built from: the last ones before secrets and sealed payloads, and before the
modules moved into packages."""


@pytest.fixture(scope="module", params=list(OLD.values()), ids=list(OLD))
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the older package, built as a wheel and installed, without its dependencies: those are here."""
    commit = request.param
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"commit {commit} is not in this checkout")
    work = tmp_path_factory.mktemp("old")
    subprocess.run(["git", "archive", "-o", work / "source.tar", commit], cwd=ROOT, check=True)
    with tarfile.open(work / "source.tar") as source:
        source.extractall(work / "source", filter="data")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", work / "wheels", work / "source"], check=True)
    (wheel,) = (work / "wheels").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", work / "site", wheel], check=True)
    return work / "site"


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
    paths = {"old": f"{old}{os.pathsep}{ROOT}", "new": str(ROOT)}
    async with harness(server.url, tmp_path) as h:
        running = [WorkerProcess(server.url, h.ledger, env={"PYTHONPATH": paths[each]}) for each in workers]
        try:
            told = json.loads(await _run(h, paths[producer], "-m", "tests.apps.produce"))
            assert Path(told["jetq"]) == (old if producer == "old" else ROOT) / "jetq"
            assert told["results"] == list(range(70, 80))
            assert told["failures"] == ["attempt 4"] * 3
            # An older caller does not know the name that a newer worker stores: it has the error as a TaskFailed.
            assert told["timeout"] == "JobTimeout" or (producer == "old" and "new" in workers)
            await h.until_done(60.0)
            _check(h, told, lives=1)

            await _run(h, paths[producer], "-m", "jetq", "dlq", "replay", "--all", "-q", "ledger")
            await h.until_done()
            _check(h, told, lives=2)
            dead = await h.dead()
            assert sorted(entry.letter.id for entry in dead) == sorted([*told["dead"], told["too_long"]])
            assert {entry.letter.failure.type for entry in dead} == {"builtins.ValueError", "jetq.JobTimeout"}
            for each in paths.values():
                shown = await _run(h, each, "-m", "jetq", "dlq", "list", "-q", "ledger", "--json")
                assert all(id in shown for id in told["dead"])
        finally:
            for worker in running:
                worker.stop()
            for worker in running:
                with worker:
                    assert await asyncio.to_thread(worker.wait) == 0


def _check(h: Harness, told: dict[str, Any], *, lives: int) -> None:
    finishes = [entry.id for entry in h.ledger.entries("finish")]
    assert sorted(finishes) == sorted([*told["done"], told["asked_again"]])
    starts = [(entry.id, entry.attempt) for entry in h.ledger.entries("start") if entry.id in told["dead"]]
    assert sorted(starts) == sorted(
        (id, attempt) for id in told["dead"] for attempt in range(1, 5) for _ in range(lives)
    )


async def _run(h: Harness, path: str, *arguments: str) -> str:
    environment = os.environ | {
        "JETQ_SERVERS": h.url,
        "JETQ_TEST_LEDGER": str(h.ledger.path),
        "PYTHONPATH": path,
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *arguments],
        env=environment,
        cwd=h.ledger.path.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
