"""What the pages show is run as it stands: their files, their commands and their output, each page by itself."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from nats import connect

from jetq.migration_hints import COMMANDS
from tests.documents import PAGES, ROOT, Command, blocks, check_command_line, commands, files, in_text, page_id
from tests.e2e.project import Project
from tests.e2e.walks import NOT_RUN, Surroundings, walk, why_not_run
from tests.servers import NatsServerFactory

README = ROOT / "README.md"
FIRST_TASK = ROOT / "docs/tutorial/first-task.md"
DEPLOY = ROOT / "docs/examples/deploy"


def console(page: Path) -> list[Command]:
    return [command for block in blocks(page) if block.language == "console" for command in commands(block)]


# --- every command line, wherever it stands


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_line_of_jetq_is_one(page: Path) -> None:
    for command in console(page):
        found = re.match(r"(?:\w+=\S+ )*(jetq .*)", command.line)
        if found and not command.shown.startswith("error: jetq has no command"):
            check_command_line(found[1], whole=True)
    for code in in_text(page):
        if code.startswith("jetq ") and code.split()[1] not in COMMANDS:
            check_command_line(code, whole=False)


def test_the_examples_of_a_deployment_start_a_worker() -> None:
    (unit,) = re.findall(r"^ExecStart=\S+/(jetq .*)$", (DEPLOY / "jetq-worker.service").read_text(), re.MULTILINE)
    (listed,) = re.findall(r"command: \[(.*)\]", (DEPLOY / "worker.yaml").read_text())
    for line in (unit, listed.replace(",", "")):
        check_command_line(line, whole=True)


@pytest.mark.parametrize(
    "line",
    [
        "jetq wroker tasks",
        "jetq worker tasks --concurency 5",
        "jetq dlq list --reason bored",
        "jetq queue drop mail",
        "jetq call",
        "jetq worker --processes",
        "jetq dlq",
        "jetq server --port n",
    ],
)
def test_a_command_line_that_is_none_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        check_command_line(line, whole=True)


def test_what_is_left_out_in_running_text_may_be_left_out() -> None:
    for line in ("jetq job why", "jetq worker --processes", "jetq dlq list|show", "jetq server --port N"):
        check_command_line(line, whole=False)
    for line in ("jetq job wyh", "jetq dlq list|sohw", "jetq worker --procs"):
        with pytest.raises(click.UsageError):
            check_command_line(line, whole=False)


# --- every block, in order

TASKS = files(FIRST_TASK)["tasks.py"]
SHOP = files(ROOT / "docs/tutorial/small-service.md")["shop.py"]
ONE, TWO = "01a20abd74aa9ae93d3bec23bda8", "01a20b8642db0942c0382000a2e9"

STORE = "python store.py\n"
BURST = "jetq worker tasks --burst --no-plugins\n"

DEAD = """
import smtplib
from jetq import task

@task(max_attempts=1)
def mail(to: str, copies: int = 1) -> None:
    if to == "nobody":
        raise ValueError("nobody is there")

@task(name="jetq_email.send_email", queue="email", max_attempts=1)
def send_email(to: str) -> None:
    raise smtplib.SMTPServerDisconnected("gone")

@task(max_attempts=1)
def sync() -> None:
    raise ValueError("no")
"""

STORE_DEAD = """
from tasks import mail, send_email, sync

for number in range(7):
    mail.options(id=f"dead-{number}").delay("nobody")
for to in ("ann", "bob"):
    send_email.delay(to)
sync.delay()
"""

MADE_OLD = """
import json, sys, time

for line in sys.stdin:
    letter = json.loads(line)
    letter["letter"]["at"] = time.time() - 30 * 86400
    print(json.dumps(letter))
"""

EDITOR = """
import pathlib, sys

file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text().replace("nobody", "ann"))
"""

AROUND: dict[str, Surroundings] = {
    "README.md": Surroundings(),
    "docs/tutorial/first-task.md": Surroundings(),
    "docs/tutorial/small-service.md": Surroundings(appears="Subject: Your order 42"),
    "docs/tutorial/workflow.md": Surroundings(appears="Subject: Your album"),
    "docs/how-to/cancel-and-reschedule.md": Surroundings(
        files={
            "tasks.py": TASKS + "\n\n@task(key='welcome:{user}')\nasync def welcome(user: int) -> None: ...\n",
            "store.py": "from tasks import add, welcome\n"
            f"for id in {(ONE, TWO, 'more')}:\n    add.options(id=id, delay=600).delay(2, 3)\n"
            "welcome.options(delay=600).delay(7)\n",
        },
        before=STORE,
    ),
    "docs/how-to/check-a-deployment.md": Surroundings(),
    "docs/how-to/come-from-celery.md": Surroundings(),
    "docs/how-to/compose-workflows.md": Surroundings(worker="tasks --no-plugins"),
    "docs/how-to/connect.md": Surroundings(),
    "docs/how-to/dead-letters.md": Surroundings(
        files={"tasks.py": DEAD, "store.py": STORE_DEAD, "old.py": MADE_OLD, "editor.py": EDITOR},
        before=STORE + BURST + "jetq dlq export dead-5 dead-6 | python old.py > old\njetq dlq import old\nrm old\n",
        worker="tasks --no-plugins",
        ids=tuple(f"dead-{number}" for number in range(5)),
    ),
    "docs/how-to/deploy.md": Surroundings(),
    "docs/how-to/give-permissions.md": Surroundings(files={"shop.py": SHOP}),
    "docs/how-to/handle-failures-of-workflows.md": Surroundings(worker="tasks --no-plugins", appears="told: done"),
    "docs/how-to/let-people-unsubscribe.md": Surroundings(),
    "docs/how-to/limit.md": Surroundings(
        files={
            "store.py": "from tasks import geocode\n"
            "geocode.delay_many([geocode.bind('a')] * 60)\n"
            f"geocode.options(id='{TWO}').delay('b')\n"
        },
        before=STORE,
        worker="tasks --no-plugins",
    ),
    "docs/how-to/pause-and-drain.md": Surroundings(
        files={"tasks.py": TASKS, "store.py": "from tasks import add\nadd.options(queue='mail').delay(2, 3)\n"},
        before=STORE + "jetq setup queues -q mial",
    ),
    "docs/how-to/run-many-processes.md": Surroundings(files={"tasks.py": TASKS}),
    "docs/how-to/run-on-a-schedule.md": Surroundings(
        files={"billing.py": "from jetq import Jetq\n\napp = Jetq()\n"}, before=BURST
    ),
    "docs/how-to/see-what-a-job-does.md": Surroundings(
        files={
            "tasks.py": TASKS,
            "store.py": f"from tasks import add\nadd.options(id='{ONE}').delay(2, 3)\n",
            "later.py": f"from tasks import add\nadd.options(id='{TWO}', queue='mail').delay(2, 3)\n",
        },
        before=STORE + BURST + "python later.py\n",
    ),
    "docs/how-to/send-mail.md": Surroundings(
        files={"ann.json": '{"name": "Ann", "product": "Shop", "url": "https://shop.example"}'}
    ),
    "docs/how-to/send-through-a-provider.md": Surroundings(),
    "docs/how-to/send-through-several-providers.md": Surroundings(),
    "docs/how-to/write-a-plugin.md": Surroundings(
        files={
            "shop.py": SHOP,
            "acme_jobs/tasks.py": TASKS.replace("@task\n", "@task(queue='acme')\n"),
            "acme_jobs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-jobs\nVersion: 1.0\n",
            "acme_jobs-1.0.dist-info/entry_points.txt": "[jetq.tasks]\nacme = acme_jobs.tasks\n",
        }
    ),
    "docs/reference/cli.md": Surroundings(
        files={
            "tasks.py": TASKS
            + "\n\n@task\ndef digest(days: int) -> None: ...\n"
            + "\n\n@task(max_attempts=1)\ndef mail(to: str) -> None:\n    assert to != 'nobody'\n",
            "store.py": "from tasks import mail\n\nfor number in range(2):\n"
            "    mail.options(id=f'dead-{number}').delay('nobody')\n",
            "editor.py": EDITOR,
        },
        before=STORE + BURST,
        worker="tasks --no-plugins",
        ids=("dead-0", "dead-1"),
    ),
    "docs/reference/wire-format.md": Surroundings(),
}
"""What the pages with commands take for granted."""

OWN_SERVER = {
    "README.md",
    "docs/tutorial/first-task.md",
    "docs/tutorial/small-service.md",
    "docs/tutorial/workflow.md",
}
"""Pages whose commands start a server."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty directory. No port is fixed, and the editor is one that changes what it is given."""
    directory = tmp_path / "project"
    directory.mkdir()
    return Project(directory, JETQ_DEV_PORT="0", JETQ_SERVER_PORT="0", VISUAL=f"{sys.executable} editor.py")


def with_server(project: Project, url: str) -> Project:
    project.environment |= {"NATS_URL": url, "JETQ_NAMESPACE": project.directory.parent.name.replace("_", "-")[:40]}
    return project


LONG = {"docs/how-to/dead-letters.md", "docs/how-to/cancel-and-reschedule.md", "docs/reference/cli.md"}
WALKED = [
    pytest.param(page, marks=[pytest.mark.slow] if page_id(page) in LONG else []) for page in PAGES if console(page)
]


@pytest.mark.once
@pytest.mark.timeout(300)  # on a busy machine: a page has up to twenty commands
@pytest.mark.parametrize("page", WALKED, ids=page_id)
def test_the_commands_of_a_page_do_what_it_says(page: Path, project: Project, request: pytest.FixtureRequest) -> None:
    name = page_id(page)
    if name not in OWN_SERVER:
        with_server(project, request.getfixturevalue("nats_url"))
    walk(page, project, AROUND[name])


def test_a_message_published_as_the_page_says_is_a_job(project: Project, nats_server: NatsServerFactory) -> None:
    (line,) = [command.line for command in console(ROOT / "docs/reference/wire-format.md")]
    nats, pub, subject, body, stream, h, header = shlex.split(line)
    assert (nats, pub, stream, h) == ("nats", "pub", "--jetstream", "-H")
    name, _, id = header.partition(":")
    project.environment["NATS_URL"] = nats_server().url
    project.write("tasks.py", TASKS)

    async def publish() -> None:
        client = await connect(project.environment["NATS_URL"])
        await client.jetstream().publish(subject, body.encode(), headers={name: id})
        await client.close()

    assert project.jetq("setup", "tasks", "--no-plugins").returncode == 0
    asyncio.run(publish())
    assert project.jetq("worker", "tasks", "--burst", "--no-plugins").returncode == 0
    shown = json.loads(project.jetq("job", "show", id, "--json").stdout)
    assert (shown["state"], shown["result"]) == ("succeeded", 5)


def test_every_reason_for_not_running_a_command_is_needed() -> None:
    lines = [command.line for page in PAGES for command in console(page)]
    assert {why_not_run(line) for line in lines} == {None, *NOT_RUN.values()}


def test_every_block_of_commands_is_marked_as_one() -> None:
    for page in PAGES:
        assert {block.language for block in blocks(page)} <= {"console", "python", "pycon", "text", "toml", ""}, page
        for block in blocks(page):
            assert block.language == "console" or not re.search(
                r"^(\$ |(jetq|nats|pip|python) )", block.text, re.MULTILINE
            )
        assert not re.search(r"^    (\$ |(jetq|nats|pip|python) )", page.read_text("utf-8"), re.MULTILINE), page


# --- the code of an application


def _python(page: Path) -> list[str]:
    """The Python blocks that name no file."""
    return [block.text for block in blocks(page) if block.language == "python" and block.file is None]


@pytest.mark.parametrize("page", [README, FIRST_TASK], ids=["readme", "first-task"])
def test_the_application_code_shown_runs(page: Path, project: Project, nats_url: str) -> None:
    for name, text in files(page).items():
        project.write(name, text)
    code = next(text for text in _python(page) if "from tasks import add" in text)
    lines = [line for line in code.splitlines() if '"three"' not in line]  # shown to fail, and tested above
    project.write("application.py", "\n".join(lines) + "\n")
    with_server(project, nats_url)
    with project.running("worker", "tasks.py", "--no-plugins"):
        done = _python_run(project, "application.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "5"


def _python_run(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=project.directory,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_the_tests_of_the_how_to(project: Project) -> None:
    shown = files(ROOT / "docs" / "how-to" / "test-your-tasks.md")
    for name, text in shown.items():
        (project.directory / name).write_text(text)
    ended = _python_run(project, "-m", "pytest", "-q", "-W", "error")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tests = sum(text.count("\ndef test_") + text.count("\nasync def test_") for text in shown.values())
    assert f"{tests} passed" in ended.stdout
