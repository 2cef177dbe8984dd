"""Plugins on the command line: listed, served, called, and what is said of those that cannot be."""

from __future__ import annotations

import json

import pytest

from tests.e2e.cli.commands import TASKS, enqueue, stop
from tests.e2e.project import Project


def install(project: Project, distribution: str, module: str, code: str, extra: str = "") -> None:
    """What an installed plugin distribution leaves on the path."""
    project.write(f"{module}.py", code)
    info = f"{distribution.replace('-', '_')}-1.0.dist-info"  # as installers write it: a second `-` would end the name
    project.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    project.write(f"{info}/entry_points.txt", f"[jetq.tasks]\n{distribution} = {module} {extra}\n")
    project.environment["PYTHONPATH"] = f"{project.directory}:{project.environment['PYTHONPATH']}"


PLUGIN = "from jetq import task\n@task(name='shared.f', queue='plug')\ndef f() -> int:\n    return 7\n"


def test_plugins_are_listed_served_and_called(project: Project) -> None:
    install(project, "plugin-a", "plug_a", PLUGIN)
    listed = project.jetq("plugins")
    assert listed.returncode == 0, listed.stderr
    row = next(line.split() for line in listed.stdout.splitlines() if "plugin-a" in line)
    assert row == ["plugin-a", "plugin-a", "1.0", "plug_a", "shared.f"]

    without = project.jetq("worker", "tasks", "--burst", "--no-plugins").stdout
    assert "shared.f" not in without
    with project.running("worker", "tasks", "--plugin", "plugin-a") as worker:
        worker.wait_for("shared.f() -> int")
        worker.wait_for("serves")
        assert project.jetq("call", "shared.f").stdout == "7\n"


def test_a_setting_of_the_project_says_which_plugins_are_served(project: Project) -> None:
    install(project, "plugin-a", "plug_a", PLUGIN)
    install(project, "plugin-b", "plug_b", PLUGIN.replace("shared", "other"))
    project.write("pyproject.toml", '[tool.jetq]\nplugins = ["plugin-a"]\n')
    done = project.jetq("worker", "tasks", "--burst")
    chosen = done.stdout
    assert ("shared.f" in chosen, "other.f" in chosen, "jetq_email" in chosen) == (True, False, False), done.stderr
    asked = project.jetq("worker", "tasks", "--burst", "--plugin", "plugin-b").stdout
    assert ("shared.f" in asked, "other.f" in asked) == (False, True)
    project.environment["JETQ_PLUGINS"] = "plugin-c"
    missing = project.jetq("worker", "tasks", "--burst")
    assert (missing.returncode, "there is no plugin 'plugin-c'" in missing.stderr) == (2, True)


def test_dev_tells_of_plugins_on_one_line_and_watches_code_that_is_elsewhere(
    fresh: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    install(fresh, "plugin-a", "plug_a", PLUGIN)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "helping.py").write_text("WORD = 1\n")
    fresh.environment["PYTHONPATH"] += f":{elsewhere}"
    fresh.write("tasks.py", "import helping\n" + TASKS)
    with fresh.running("dev", "tasks.py") as dev:
        assert "plugin-a (queue plug)" in dev.wait_for("plugins: ")
        dev.wait_for("serves")
        fresh.write("beside.py", "1\n")
        (elsewhere / "helping.py").write_text("WORD = 22\n")
        dev.wait_for("helping.py changed: starting the worker anew")
        dev.wait_for("serves")
        stop(dev)
    said = "\n".join(dev.output)
    assert ("shared.f" in said, "beside.py" in said) == (False, False)


def test_two_plugins_with_one_task_name_are_both_named(project: Project) -> None:
    install(project, "plugin-a", "plug_a", PLUGIN)
    install(project, "plugin-b", "plug_b", PLUGIN)
    done = project.jetq("worker", "tasks", "--plugin", "plugin-a", "--plugin", "plugin-b")
    assert done.returncode == 2
    assert "plugin-a" in done.stderr
    assert "plugin-b" in done.stderr


def test_a_broken_plugin_names_its_distribution(project: Project) -> None:
    install(project, "plugin-c", "plug_c", "import no_such_library\n")
    listed = project.jetq("plugins")
    assert listed.returncode == 2
    assert "(cannot be imported)" in listed.stdout
    assert "plugin-c" in listed.stderr
    worker = project.jetq("worker", "tasks", "--plugin", "plugin-c")
    assert worker.returncode == 2
    assert "plugin-c" in worker.stderr


def test_a_plugin_whose_extra_is_not_installed_is_left_out_unless_asked_for(project: Project) -> None:
    install(project, "plugin-d", "plug_d", "import no_such_library\n", extra="[mail]")
    listed = project.jetq("plugins")
    assert listed.returncode == 0, listed.stderr
    assert "(needs plugin-d[mail])" in listed.stdout
    assert project.jetq("worker", "tasks", "--burst").returncode == 0
    asked = project.jetq("worker", "tasks", "--plugin", "plugin-d")
    assert asked.returncode == 2
    assert "plugin-d" in asked.stderr


NO_MAIL = "no mail transport is configured for this worker"


def test_a_plugin_that_is_not_ready_costs_its_jobs_nothing(project: Project) -> None:
    """Guarantee: a worker without a mail server burns no attempt of a mail."""
    id = enqueue(project, "jetq_email.send_email", "ann@example.com", "Hello", "Hi")
    with project.running("worker", "tasks") as worker:
        worker.wait_for(f"not ready: queue email of plugin email: {NO_MAIL}")
        worker.wait_for("serves")
        assert project.jetq("call", "tasks.add", "1", "2").stdout == "3\n"
    shown = json.loads(project.jetq("job", "show", id, "--json").stdout)
    assert (shown["state"], shown["attempt"]) == ("queued", 1)
    assert "plugin-not-ready  email: a worker that is started here leaves it to others" in project.jetq("doctor").stdout
    assert f"(not ready here: {NO_MAIL}" in project.jetq("plugins").stdout
    for words in (["-q", "email"], ["--plugin", "email"], []):
        done = project.jetq("worker", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: plugin email is not ready to serve queue email: {NO_MAIL}")
    project.environment["JETQ_EMAIL_TRANSPORT"] = "console"
    project.environment["JETQ_EMAIL_SENDER"] = "shop@example.com"
    with project.running("worker", "tasks") as worker:
        worker.wait_for("Subject: Hello")


def test_a_router_is_found_where_a_command_is_started(project: Project) -> None:
    project.environment |= {"JETQ_EMAIL_TRANSPORT": "shop_mail:mail", "JETQ_EMAIL_SENDER": "shop@example.com"}
    enqueue(project, "jetq_email.send_email", "ann@example.com", "Hello", "Hi")
    project.environment["PYTHONSAFEPATH"] = "1"  # so that `-m` adds no directory, as the command `jetq` does not
    project.write("shop_mail.py", "from jetq_email import Route, Router\nmail = Router([Route('postmark')])\n")
    lacks = "route postmark: transport postmark is not set up; set JETQ_EMAIL_POSTMARK_TOKEN"
    assert f"(not ready here: {lacks}" in project.jetq("plugins").stdout
    done = project.jetq("worker", "-q", "email", "--plugin", "email")
    assert (done.returncode, lacks in done.stderr) == (2, True), done.stderr
    project.write("shop_mail.py", "from jetq_email import Route, Router\nmail = Router([Route('console')])\n")
    with project.running("worker", "-q", "email", "--plugin", "email") as worker:
        worker.wait_for("Subject: Hello")
