"""Canaries as secrets, through everything that can happen to a job, and every output and file searched for them."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jetq import ArgumentError, BrokerUnavailable, Jetq, JetqError
from jetq.broker import Broker
from jetq.model.job import JobRecord
from jetq.model.names import new_job_id
from jetq.operations.job_view import view_job
from tests.apps import secret_tasks as tasks
from tests.apps.working import share, tasks_of
from tests.e2e.project import Project
from tests.servers import NatsServer, NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BY_NAME = "c4n4ry-by-name/ü'1"
BY_MARK = "c4n4ry-by-mark\\2"
SERVER = "c4n4ry-of-the-server"
WRONG = "c4n4ry-that-is-wrong"
MAIL = "c4n4ry-of-the-mail"
CODE = ("-A", "tests.apps.secret_tasks")

EVERYWHERE = ("c4n4ry-by-name", SERVER, WRONG, MAIL)
"""What no output may have."""
WITH_CODE = (*EVERYWHERE, "c4n4ry-by-mark")
"""Nor may one that is made by what knows the annotations."""


class Outputs:
    """All that was written, and by what."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.written: list[tuple[str, str]] = []

    def add(self, what: str, text: str, canaries: Sequence[str] = WITH_CODE) -> None:
        self.written.append((what, text))
        for canary in canaries:
            assert canary not in text, f"{canary} in {what}:\n{text}"

    def jetq(self, *words: str, code: int = 0, canaries: Sequence[str] = WITH_CODE) -> str:
        done = self._project.jetq(*words)
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        self.add(f"jetq {' '.join(words)[:80]}", done.stdout + done.stderr, canaries)
        return done.stdout

    def everything(self) -> str:
        return "\n".join(text for _, text in self.written)


@pytest.fixture
def server(nats_server: NatsServerFactory) -> NatsServer:
    return nats_server(f'authorization {{ user: bob, password: "{SERVER}" }}')


@pytest.fixture
def project(tmp_path: Path, server: NatsServer) -> Project:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tmp_path / "project"
    directory.mkdir()
    return Project(
        directory,
        NATS_URL=f"nats://bob:{SERVER}@127.0.0.1:{server.port}",
        JETQ_EMAIL_HOST="127.0.0.1",
        JETQ_EMAIL_PORT=str(port),
        JETQ_EMAIL_USER="bob",
        JETQ_EMAIL_PASSWORD=MAIL,
        JETQ_EMAIL_TLS="none",
        JETQ_EMAIL_SENDER="bob@example.com",
    )


def make_app(server: NatsServer) -> Jetq:
    app = Jetq(server.url, user="bob", password=SERVER)
    share(app, *tasks_of(tasks))
    return app


def calls() -> dict[str, Any]:
    long = ("bob", BY_NAME, BY_MARK, tasks.Login("bob", BY_MARK), BY_MARK)
    others: dict[str, Any] = {"token": BY_NAME, "x": {"deep": [{"apiKey": BY_NAME}]}}
    pair = (BY_NAME, BY_MARK)
    return {
        "succeed": tasks.succeed.bind(*long, **others),
        "fail": tasks.fail.bind(*long, **others),
        "fail_in_thread": tasks.fail_in_thread.bind(*pair),
        "fail_in_process": tasks.fail_in_process.bind(*pair),
        "crash": tasks.crash.bind(*pair),
        "late": tasks.late.bind(*pair),
        "ask_again": tasks.ask_again.bind("first-password", "first-pin", BY_NAME, BY_MARK),
        "unstorable": tasks.unstorable.bind(*pair),
    }


async def plant(broker: Broker, task: str, body: bytes) -> str:
    """Store what no producer of jetq would."""
    id = new_job_id()
    await broker.enqueue(JobRecord(id=id, task=f"tests.apps.secret_tasks.{task}", queue="secret", body=body))
    return id


async def enqueue_all(app: Jetq) -> dict[str, str]:
    """Every job, by what it is to show: its id."""
    ids = {name: (await app.aenqueue(call)).id for name, call in calls().items()}
    broker = await app.session.broker()
    wrong = {"user": 5, "password": BY_NAME, "pin": [BY_MARK], "login": {"user": "bob", "pinCode": BY_MARK}}
    ids["wrong"] = await plant(broker, "succeed", json.dumps(wrong).encode())
    ids["picky"] = await plant(broker, "picky", json.dumps({"picky": {"code": BY_MARK}, "password": BY_NAME}).encode())
    ids["python"] = await plant(broker, "succeed", repr({"password": BY_NAME, "pin": BY_MARK}).encode())
    mail = {"to": "ann@example.com", "subject": "hi", "text": "hi"}
    ids["mail"] = (await app.asend("jetq_email.send_email", mail, queue="secret")).id
    return ids


DEAD = {
    "fail": "failed", "fail_in_thread": "failed", "fail_in_process": "failed", "crash": "crashed", "late": "failed",
    "ask_again": "rejected", "unstorable": "failed", "wrong": "bad-arguments", "picky": "bad-arguments",
    "python": "undecodable",
}  # fmt: skip


async def test_a_secret_is_in_no_output_whatever_happens_to_its_job(
    project: Project, server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: what is secret by name or annotation is in no log, error, repr, dead letter or answer of a command."""
    caplog.set_level(logging.DEBUG)
    outputs = Outputs(project)
    app = make_app(server)
    ids = await enqueue_all(app)
    worker = ("worker", "tests.apps.secret_tasks", "-q", "secret", "-v", "--log-level", "debug", "--log-format")

    with project.running(*worker, "json") as process:
        await asyncio.to_thread(process.wait_for, "serves")
        await until_dead(app, ids)
        process.signal(signal.SIGTERM)
        await asyncio.to_thread(process.end)
    outputs.add("worker", "\n".join(process.output))
    assert sum('"level": "error"' in line and "is dead" in line for line in process.output) == len(DEAD)

    await asyncio.to_thread(show_all, outputs, ids)
    broker = await app.session.broker()
    for each in await broker.dead("secret"):
        outputs.add("the dead letter", str(each.letter) + repr(each))
    for name in ids:
        view = await view_job(broker, ids[name])
        outputs.add("reprs", repr(view) + repr(app.job(ids[name], queue="secret")))
    await outcomes(app, outputs, ids)

    replayed = outputs.jetq("dlq", "replay", "--all")
    assert replayed == f"replayed {len(DEAD)} jobs\n"
    await asyncio.to_thread(outputs.jetq, *worker, "console", "--no-plugins", "--burst")
    assert len(await broker.dead("secret")) == len(DEAD)
    await app.session.aclose()

    outputs.add("the producer's log", caplog.text)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "store" not in path.parts]
    for path in files:
        if path.name != "nats-server.conf":
            outputs.add(str(path), path.read_text("utf-8", "replace"))
    assert "***" in outputs.everything()


async def until_dead(app: Jetq, ids: dict[str, str]) -> None:
    broker = await app.session.broker()
    async with asyncio.timeout(40):
        while len(await broker.dead("secret")) < len(DEAD) or not (await view_job(broker, ids["mail"])).errors:
            await asyncio.sleep(0.1)


def show_all(outputs: Outputs, ids: dict[str, str]) -> None:
    listings = [["dlq", "list"], ["dlq", "list", "--json"], ["queue", "ls"], ["queue", "ls", "--json"]]
    with ThreadPoolExecutor(3) as pool:  # most of a command's time is its start
        shown = dict(zip(ids, pool.map(lambda id: outputs.jetq("job", "show", id, *CODE), ids.values()), strict=True))
        letters = pool.map(lambda name: outputs.jetq("dlq", "show", ids[name], *CODE, "--json"), DEAD)
        details = {name: json.loads(text) for name, text in zip(DEAD, letters, strict=True)}
        list(pool.map(lambda words: outputs.jetq(*words, *CODE), listings))
        without_code = [("job", "show", "--json"), ("dlq", "show")]
        for name in ("fail", "wrong", "python"):
            list(pool.map(lambda words: outputs.jetq(*words, ids[name], canaries=EVERYWHERE), without_code))  # noqa: B023
    assert [name for name, text in shown.items() if "***" not in text] == ["python", "mail"]
    assert {name: each["reason"] for name, each in details.items()} == DEAD
    fail = details["fail"]
    assert "***" in fail["error"]["message"] and fail["traceback"].count("***") >= 3
    assert fail["arguments"]["user"] == "bob" and fail["arguments"]["password"] == "***"


async def outcomes(app: Jetq, outputs: Outputs, ids: dict[str, str]) -> None:
    assert (await app.job(ids["succeed"], queue="secret").aresult(5)).pin_code == BY_MARK  # it did get and return it
    for name in ("fail", "fail_in_thread", "fail_in_process", "unstorable"):
        with pytest.raises(Exception) as caught:
            await app.job(ids[name], queue="secret").aresult(5)
        outputs.add(f"the caller of {name}", "".join(traceback.format_exception(caught.value)))


async def test_a_secret_is_in_no_refusal_of_a_call(project: Project, server: NatsServer) -> None:
    outputs = Outputs(project)
    app = make_app(server)
    for call in (
        lambda: tasks.succeed.bind(5, BY_NAME, [BY_MARK], tasks.Login("bob", BY_MARK)),  # type: ignore[arg-type]
        lambda: tasks.succeed.bind("bob", BY_NAME, BY_MARK, {"user": 5, "pinCode": BY_MARK}),  # type: ignore[arg-type]
        lambda: tasks.fail_in_thread.bind(password={BY_NAME: object()}, pin=BY_MARK),  # type: ignore[arg-type]
    ):
        with pytest.raises(ArgumentError) as caught:
            call()
        outputs.add("ArgumentError", "".join(traceback.format_exception(caught.value)))
    with pytest.raises(ArgumentError) as caught:
        await app.asend("tests.apps.secret_tasks.picky", {"picky": {"code": BY_MARK}, "password": BY_NAME})
    outputs.add("asend", "".join(traceback.format_exception(caught.value)))
    await app.session.aclose()

    wrong = json.dumps({"password": [BY_NAME], "pin": BY_MARK})
    await asyncio.to_thread(outputs.jetq, "call", "tests.apps.secret_tasks.late", "-v", "--json", wrong, code=1)
    await asyncio.to_thread(outputs.jetq, "call", "tests.apps.secret_tasks.late", "--json", wrong, code=2)
    assert "password: expected str, got array" in outputs.everything()


async def test_a_recurring_schedule_shows_no_secret(project: Project) -> None:
    outputs = Outputs(project)
    values = json.dumps({"password": BY_NAME, "pin": BY_MARK})
    add = ("schedule", "add", "nightly", "tests.apps.secret_tasks.late", "--cron", "0 3 * * *", "--json", values)
    await asyncio.to_thread(outputs.jetq, *add)
    for words in (["show", "nightly"], ["show", "nightly", "--json"], ["ls", "--json"]):
        shown = await asyncio.to_thread(outputs.jetq, "schedule", *words, *CODE)
        assert "***" in shown


async def test_wrong_credentials_are_in_no_output(
    project: Project, server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    outputs = Outputs(project)
    for settings in ({"user": "bob", "password": WRONG}, {"token": WRONG}):
        app = Jetq(server.url, **settings)  # type: ignore[arg-type]
        with pytest.raises(BrokerUnavailable) as caught:
            await app.session.broker()
        outputs.add("the producer", "".join(traceback.format_exception(caught.value)) + repr(app) + repr(app.settings))
        await app.session.aclose()
    project.environment["NATS_URL"] = f"nats://bob:{WRONG}@127.0.0.1:{server.port}"
    await asyncio.to_thread(outputs.jetq, "queue", "ls", code=3)
    await asyncio.to_thread(outputs.jetq, "-v", "queue", "ls", code=1)
    with project.running("worker", "tests.apps.secret_tasks", "-v", "--no-plugins") as process:
        await asyncio.to_thread(process.wait_for, "wrong user or password")
        process.signal(signal.SIGTERM)
        await asyncio.to_thread(process.end)
    outputs.add("worker", "\n".join(process.output))
    for given in (f"nats://bob:{WRONG},x@h", f"nats://bob:a://{WRONG}@h:x", f"http://bob:{WRONG}@h"):
        with pytest.raises(JetqError) as refused:
            Jetq(given)
        outputs.add("settings", "".join(traceback.format_exception(refused.value)))
    outputs.add("log", caplog.text)
