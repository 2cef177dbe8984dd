"""`jetq email report` as a mail server runs it: a process of its own for each mail."""

from __future__ import annotations

import json
from pathlib import Path

from tests.apps.reports import delivery
from tests.e2e.project import Project

REPORT = delivery("Final-Recipient: rfc822; ann@example.com\nAction: failed\nStatus: 5.1.1").decode()


def test_a_mail_from_standard_input_is_a_job(tmp_path: Path, nats_url: str) -> None:
    project = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=tmp_path.name.replace("_", "-")[:40])
    for mail in (REPORT, REPORT + "x" * 3_000_000):
        done = project.jetq("email", "report", input=mail)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = project.jetq("queue", "ls", "--json")
    (queue,) = json.loads(listed.stdout)
    assert (queue["name"], queue["ready"]) == ("email", 2)


def test_without_a_broker_the_mail_server_is_to_try_again(tmp_path: Path) -> None:
    """Guarantee: a report that cannot be stored is left to the mail server, by the exit code 75."""
    project = Project(tmp_path, NATS_URL="nats://127.0.0.1:9", JETQ_CONNECT_TIMEOUT="0.5", JETQ_PUBLISH_TIMEOUT="0.5")
    done = project.jetq("email", "report", input=REPORT)
    assert done.returncode == 75
    assert done.stderr.startswith("error: ")
    assert "ann@" not in done.stderr
