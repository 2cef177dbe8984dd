"""What the README and the tutorial show is run as it stands: their files, their commands and their output."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.project import Process, Project

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial"


def _files(page: Path) -> dict[str, str]:
    """The Python blocks that begin with a file's name, by that name."""
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", page.read_text(), re.DOTALL)
    return dict(blocks)


def _python(page: Path) -> list[str]:
    """The Python blocks that name no file."""
    return re.findall(r"```python\n(?!# \S+\.py\n)(.*?)```", page.read_text(), re.DOTALL)


def _transcripts(page: Path) -> list[tuple[list[str], str]]:
    """The `jetq call` lines of the console blocks with what is shown below each."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            if command.startswith("jetq call ") and output.strip():
                found.append((command.split()[1:], output.strip()))
    return found


def _python_run(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(
        command,
        cwd=project.directory,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    return Project(tmp_path, JETQ_SERVERS=nats_url, JETQ_NAMESPACE=tmp_path.name.replace("_", "-")[:40])


@pytest.mark.parametrize("page", [README, TUTORIAL / "first-task.md"], ids=["readme", "first-task"])
def test_the_commands_shown_print_what_is_shown(page: Path, project: Project) -> None:
    for name, text in _files(page).items():
        project.write(name, text)
    transcripts = _transcripts(page)
    assert len(transcripts) == 2
    with project.running("worker", "tasks.py", "--no-plugins"):
        for words, output in transcripts:
            done = project.jetq(*words)
            assert (done.stdout + done.stderr).strip() == output


@pytest.mark.parametrize("page", [README, TUTORIAL / "first-task.md"], ids=["readme", "first-task"])
def test_the_application_code_shown_runs(page: Path, project: Project) -> None:
    for name, text in _files(page).items():
        project.write(name, text)
    code = next(text for text in _python(page) if "from tasks import add" in text)
    lines = [line for line in code.splitlines() if '"three"' not in line]  # shown to fail, and tested above
    project.write("application.py", "\n".join(lines) + "\n")
    with project.running("worker", "tasks.py", "--no-plugins"):
        done = _python_run(project, "application.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "5"


def _commands(page: Path) -> list[tuple[str, str]]:
    """The lines of the console blocks after a `$`, in order, each with what is shown below it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip()))
    return found


def test_the_small_service_is_set_up_run_and_tested_as_it_is_shown(tmp_path: Path) -> None:
    page = TUTORIAL / "small-service.md"
    project = Project(tmp_path)
    for name, text in _files(page).items():
        project.write(name, text)
    with ExitStack() as running:
        workers: list[Process] = []
        for command, shown in _commands(page):
            _follow(project, command, shown, running, workers)
        workers[0].wait_for("Subject: Your order 42")


def _follow(project: Project, command: str, shown: str, running: ExitStack, workers: list[Process]) -> None:
    """Do what a reader of the tutorial does."""
    words = shlex.split(command)
    if words[0] == "export":
        project.environment |= dict(word.split("=", 1) for word in words[1:])
    elif words[:2] == ["pip", "install"]:
        assert words[2].endswith("[server,email]")  # what it brings is here already
    elif command == "jetq server":
        server = running.enter_context(project.running("server", "--port", "0"))
        project.environment["NATS_URL"] = server.wait_for("nats://").split("on ")[1].split(",")[0]
    elif command.startswith("jetq worker"):
        workers.append(running.enter_context(project.running(*words[1:])))
        workers[-1].wait_for(" serves ")
    else:
        done = _python_run(project, "-m", *words) if words[0] == "jetq" else _python_run(project, *words[1:])
        said = re.sub(r"\b[0-9a-f]{28}\b", "ID", done.stdout + done.stderr)
        assert shown in said
        assert done.returncode == (1 if shown.startswith("error:") else 0), said


def test_the_tests_of_the_how_to(project: Project) -> None:
    files = _files(ROOT / "docs" / "how-to" / "test-your-tasks.md")
    for name, text in files.items():
        (project.directory / name).write_text(text)
    ended = _python_run(project, "-m", "pytest", "-q", "-W", "error")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tests = sum(text.count("\ndef test_") + text.count("\nasync def test_") for text in files.values())
    assert f"{tests} passed" in ended.stdout
