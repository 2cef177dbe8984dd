"""A reader of a page: does what its console blocks say, in order, in a directory with the files that the page shows."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.documents import Command, blocks, commands, files
from tests.e2e.project import Process, Project

__all__ = ["NOT_RUN", "Surroundings", "walk", "why_not_run"]

NOT_RUN = {
    r"pip install ": "it installs from a package index",
    r"python -m venv ": "the environment would be without what was installed for the test",
    r"make demo": "tests/e2e/test_demo.py runs it",
    r"make test": "it is what runs now",
    r"jetq doctor .*--monitor http://10\.": "it asks the monitoring of servers on other machines",
    r"jetq job why 01a20abd74aa9ae93d3bec23bda8$": "it waits there for a moment only; a unit test holds the words",
    r"jetq workflow show video-7$": "it needs a disk without room; tests/e2e/cli/test_workflow.py shows others",
    r"(docker|kubectl|systemctl) ": "it needs a container, a cluster or systemd",
    r"nats pub ": "the nats command is no part of jetq; tests/e2e/test_docs_snippets.py publishes the message",
}
"""What a page says and no test can do, and why."""

_STAYS = re.compile(r"jetq (dev|server|worker)\b")
_MADE = re.compile(r"\b[0-9a-f]{28}\b")


@dataclass(frozen=True)
class Surroundings:
    """What a page takes for granted.

    files: those that are there besides its own. before: shell lines that are run first. worker: the words of a
    `jetq worker` that runs meanwhile. ids: what the word ID stands for, one after the other; without, for the id that
    was shown last. appears: what the first worker prints once all was done.
    """

    files: dict[str, str] = field(default_factory=dict)
    before: str = ""
    worker: str = ""
    ids: tuple[str, ...] = ()
    appears: str = ""


def why_not_run(line: str) -> str | None:
    """The reason for which the command is not run by any test; None for one that is."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, line)), None)


def walk(page: Path, project: Project, around: Surroundings) -> None:
    """Do what the page says. Each command must end as the page shows, and print what is shown below it."""
    for name, text in {**around.files, **files(page)}.items():
        project.write(name, text)
    with ExitStack() as stack:
        reader = _Reader(project, stack, around.ids)
        if around.before:
            reader.shell(around.before)
        if around.worker:
            reader.start(f"jetq worker {around.worker}")
        for block in blocks(page):
            for command in commands(block) if block.language == "console" else []:
                reader.do(command)
        if around.appears:
            reader.workers[0].wait_for(around.appears)


class _Reader:
    def __init__(self, project: Project, stack: ExitStack, ids: tuple[str, ...]) -> None:
        self._project = project
        self._stack = stack
        self._ids = iter(ids)
        self._last = "ID"
        self.workers: list[Process] = []
        shims = project.directory.with_name(f"{project.directory.name}-bin")
        shims.mkdir()
        for name, words in {"jetq": "-m jetq", "python": ""}.items():
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        project.environment["PATH"] = f"{shims}{os.pathsep}{project.environment['PATH']}"

    def do(self, command: Command) -> None:
        line = self._with_id(command.line)
        if why_not_run(line) is not None:
            return
        if line.startswith("export "):
            self._project.environment |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
        elif _STAYS.match(line):
            self._shows(command, "\n".join(self.start(line)))
        else:
            self._shows(command, self.shell(line, fails=command.shown.startswith("error:")))

    def start(self, line: str) -> list[str]:
        """Begin what goes on in the background; what it says until it is ready."""
        words = shlex.split(line, comments=True)[1:]
        process = self._stack.enter_context(self._project.running(*words))
        if words[0] == "server":
            self._project.environment["NATS_URL"] = process.wait_for("nats://").split("on ")[1].split(",")[0]
        else:
            self.workers.append(process)
            process.wait_for("try: jetq call" if words[0] == "dev" else " serves ")
        return process.output

    def shell(self, lines: str, *, fails: bool = False) -> str:
        """What lines of shell print, which end with code 0 unless it `fails`. A question is answered by yes."""
        done = subprocess.run(
            ["bash", "-e", "-c", lines],
            cwd=self._project.directory,
            env=self._project.environment,
            input="y\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=40,
            check=False,
        )
        assert (done.returncode != 0) is fails, f"$ {lines}\n{done.stdout}\n{self._beside()}"
        self._last = next(iter(_MADE.findall(done.stdout)), self._last)
        return done.stdout

    def _beside(self) -> str:
        """What the workers have said."""
        return "\n".join(line for worker in self.workers for line in ["beside it:", *worker.said()])

    def _with_id(self, line: str) -> str:
        return re.sub(r"\bID\b", lambda _: next(self._ids, self._last), line)

    def _shows(self, command: Command, said: str) -> None:
        left = iter(_lines(said))
        for line in _lines(command.shown):
            assert line in left, (
                f"$ {command.line}\n{said}\nhas no line, or not in this place:\n{line}\n{self._beside()}"
            )


def _lines(text: str) -> list[str]:
    """The lines, with a word each for what differs from run to run."""
    for pattern, word in {
        _MADE.pattern: "ID",
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d": "TIME",
        r"[\w.-]+-\d+-[0-9a-f]{4}\b": "WORKER",
        r"\b\d+[smhd]( \d+[smhd])*\b|\d+": "N",
        r"[ \t]+": " ",
    }.items():
        text = re.sub(pattern, word, text)
    return [line.strip() for line in text.splitlines()]
