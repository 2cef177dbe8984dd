"""What every command has in common: help, variables of options, and tracebacks when asked for."""

from __future__ import annotations

from tests.e2e.cli.commands import enqueue
from tests.e2e.project import Project


def test_the_traceback_is_shown_when_asked_for(project: Project) -> None:
    project.write("broken.py", "1 / 0\n")
    assert "Traceback" in project.jetq("worker", "broken", "-v").stderr


def test_a_misspelt_variable_is_refused_before_the_worker_starts_and_does_not_stand_in_the_way_of_help(
    project: Project,
) -> None:
    project.environment["JETQ_WORKER_CONCURENCY"] = "5"
    done = project.jetq("worker", "tasks", "--burst")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the environment variable JETQ_WORKER_CONCURENCY is none of jetq's\n"
        "hint: did you mean JETQ_WORKER_CONCURRENCY?\n"
    )
    assert project.jetq("worker", "--help").returncode == 0


def test_every_option_has_a_variable(project: Project) -> None:
    enqueue(project, "tasks.quiet", "x")
    project.environment |= {"JETQ_WORKER_BURST": "1", "JETQ_WORKER_PLUGINS": "0", "JETQ_WORKER_QUEUE": "default slow"}
    assert project.jetq("worker", "tasks").returncode == 0


def test_version_and_help(project: Project) -> None:
    assert project.jetq("--version").stdout.startswith("jetq 0.1.0")
    assert "JETQ_WORKER_CONCURRENCY" in project.jetq("--help").stdout
    unknown = project.jetq("frobnicate")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: No such command 'frobnicate'.\nhint: jetq --help\n")
