"""`jetq email suppressed` and `jetq email log`, as operators use them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import pytest

from jetq_email.suppression import address_hash
from tests.e2e.project import Project


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    return Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"list-{token_hex(4)}")


def told(project: Project, *words: str, code: int = 0) -> str:
    done = project.jetq("email", *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_list_from_the_first_address_to_the_last(project: Project) -> None:
    assert told(project, "suppressed", "ls") == "nobody is on the list\n"
    assert told(project, "suppressed", "add", "Ann@Example.com", "bob@example.com") == "2 added, 0 were on the list\n"
    assert told(project, "suppressed", "add", "ann@example.com", "--topic", "news") == "1 added, 0 were on the list\n"
    assert (
        told(project, "suppressed", "add", "ann@example.com", "--reason", "bounce") == "0 added, 1 were on the list\n"
    )
    listed = [json.loads(line) for line in told(project, "suppressed", "ls", "--json").splitlines()]
    assert [(each["hash"], each["reason"], each.get("topic")) for each in listed] == [
        (address_hash("ann@example.com"), "manual", None),
        (address_hash("bob@example.com"), "manual", None),
        (address_hash("ann@example.com"), "manual", "news"),
    ]
    assert "example.com" not in told(project, "suppressed", "ls")
    exported = told(project, "suppressed", "export")
    assert exported.splitlines()[0] == "address,reason,topic,source,at,detail"

    gone = told(project, "suppressed", "rm", "bob@example.com", address_hash("ann@example.com"), "cleo@example.com")
    assert gone == "2 taken off, 1 were not on the list\n"
    project.write("list.csv", exported)
    assert told(project, "suppressed", "import", "list.csv") == "2 added, 1 were on the list\n"
    assert sorted(told(project, "suppressed", "export").splitlines()) == sorted(exported.splitlines())


def test_files_of_others(project: Project) -> None:
    project.write("a.txt", "ann@example.com\n\nbob@example.com\n")
    assert told(project, "suppressed", "import", "a.txt") == "2 added, 0 were on the list\n"
    project.write("b.csv", "created,Address,reason\n2026,cleo@example.com,complaint\n")
    assert told(project, "suppressed", "import", "b.csv") == "1 added, 0 were on the list\n"
    project.write("c.csv", "address,reason\ndan@example.com,bounce\neve@example.com,bored\n")
    assert "error: line 3: Invalid enum value 'bored'" in told(project, "suppressed", "import", "c.csv", code=2)
    project.write("d.txt", "dan@example.com\nno address\n")
    assert "error: line 2: not a mail address" in told(project, "suppressed", "import", "d.txt", code=2)
    assert len(told(project, "suppressed", "ls").splitlines()) == 4


def test_addresses_that_are_kept(project: Project) -> None:
    project.environment["JETQ_EMAIL_ADDRESSES"] = "clear"
    told(project, "suppressed", "add", "ann@example.com")
    assert told(project, "suppressed", "ls").splitlines()[1].startswith("ann@example.com  manual")


def test_the_log(project: Project) -> None:
    assert told(project, "log") == "there is no mail in the log\n"
    project.environment |= {"JETQ_EMAIL_TRANSPORT": "console", "JETQ_EMAIL_SENDER": "s@example.org"}
    project.environment["JETQ_EMAIL_LOG_TTL"] = "600"
    project.write("send.py", "from jetq_email import send_email\nsend_email.delay('ann@example.com', 's', text='t')\n")
    with project.running("worker", "--plugin", "email", "-q", "email") as worker:
        subprocess.run([sys.executable, "send.py"], cwd=project.directory, env=project.environment, check=True)
        worker.wait_for("mail to ann@example.com")
        worker.signal(signal.SIGTERM)  # which lets what runs end, its entry too
        assert worker.end() == 0
    (line,) = told(project, "log", "ann@example.com", "--json").splitlines()
    entry = json.loads(line)
    assert (entry["outcome"], entry["via"], entry["hash"]) == ("sent", "console", address_hash("ann@example.com"))
    assert told(project, "log").splitlines()[1].split()[2:5] == ["sent", address_hash("ann@example.com"), "console"]
    assert told(project, "log", "bob@example.com") == "there is no mail in the log\n"
