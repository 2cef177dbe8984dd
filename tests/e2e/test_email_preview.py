"""`jetq email preview --serve` as its users have it: a process of its own, and a browser."""

from __future__ import annotations

import re
import signal
import urllib.request
from pathlib import Path

from tests.e2e.project import Project


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        text: str = response.read().decode()
        return text


def test_a_template_that_changes_is_shown_anew_until_ctrl_c(tmp_path: Path) -> None:
    project = Project(tmp_path, JETQ_EMAIL_TEMPLATE_DIRECTORY=str(tmp_path))
    project.write("a.subject.txt", "Order")
    project.write("a.html", "Hello {{ name }}")
    project.write("d.json", '{"name": "Ann"}')
    with project.running("email", "preview", "a", "--data", "d.json", "--serve") as process:
        (url,) = re.findall(r"http://\S+/", process.wait_for("preview on"))
        assert "Hello Ann" in _page(url)
        project.write("a.html", "Good morning {{ name }}")
        project.write("d.json", '{"name": "Bob"}')
        assert "Good morning Bob" in _page(url)
        process.signal(signal.SIGINT)
        assert process.end() == 0


def test_what_a_template_lacks_ends_with_code_2(tmp_path: Path) -> None:
    done = Project(tmp_path).jetq("email", "preview", "welcome")
    assert done.returncode == 2
    assert done.stderr == (
        "error: template 'welcome' lacks product, name, url\nhint: give them as a JSON object in a file: --data FILE\n"
    )
