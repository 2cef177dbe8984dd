"""`MODULE`, `MODULE:APP` and `file.py`, and one sentence for each way in which they cannot be loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jetq.cli.app_loading import import_module_of_task, load_app
from jetq.cli.exit import Failed
from tests.apps.fresh import no_app_yet, own_tasks

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As in a new process in an empty directory: no app made, none of the test's modules imported."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    no_app_yet(monkeypatch)
    own_tasks(monkeypatch, and_those_of_others=True)
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - modules:
        if not name.startswith("jetq."):  # of which other tests hold parts
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


APP = "from jetq import Jetq\napp = Jetq(namespace='loaded')\n"
TASK = "from jetq import task\n@task\ndef f() -> None: ...\n"


@pytest.mark.parametrize("spec", ["cli_a", "cli_a:app", "cli_a.py", "./cli_a.py"])
def test_a_module_or_file_names_its_app(write: Write, spec: str) -> None:
    write("cli_a.py", APP)
    assert load_app([spec]).settings.namespace == "loaded"


def test_tasks_without_an_app_get_the_default_one(write: Write) -> None:
    write("cli_b.py", TASK)
    assert "cli_b.f" in load_app(["cli_b.py"]).tasks


def test_an_app_that_a_module_only_imports_counts_once(write: Write) -> None:
    write("cli_a.py", APP)
    write("cli_b.py", "from cli_a import app\n" + TASK)
    app = load_app(["cli_b", "cli_a"])
    assert app.settings.namespace == "loaded"
    assert "cli_b.f" in app.tasks


def test_a_file_in_a_package_keeps_its_packages_name(write: Write) -> None:
    write("cli_pkg/__init__.py", "")
    write("cli_pkg/sub/__init__.py", "")
    write("cli_pkg/sub/tasks.py", TASK)
    assert "cli_pkg.sub.tasks.f" in load_app(["cli_pkg/sub/tasks.py"]).tasks


def test_a_file_elsewhere_is_imported_from_its_own_directory(write: Write) -> None:
    write("src/cli_c.py", TASK)
    assert "cli_c.f" in load_app(["src/cli_c.py"]).tasks


def refused(*specs: str) -> Failed:
    with pytest.raises(Failed) as caught:
        load_app(specs)
    assert caught.value.code == 2
    return caught.value


def test_a_wrong_attribute_names_the_right_ones(write: Write) -> None:
    write("cli_a.py", APP + "other = app\n")
    assert refused("cli_a:aap").message == "module 'cli_a' imported but has no 'aap'; it defines: app, other"


def test_a_wrong_attribute_of_a_module_without_app_says_so(write: Write) -> None:
    write("cli_b.py", TASK)
    error = refused("cli_b:app")
    assert error.message == "module 'cli_b' imported but has no 'app'; it defines no app"
    assert error.hint == "tasks made with @task need none: cli_b"


def test_an_attribute_that_is_no_app(write: Write) -> None:
    write("cli_b.py", "app = 3\n")
    assert refused("cli_b:app").message == "'app' of module 'cli_b' is a int, not a Jetq app"


def test_two_apps_are_one_too_many(write: Write) -> None:
    write("cli_a.py", APP)
    write("cli_d.py", APP)
    assert refused("cli_a", "cli_d").message == "there is more than one app: cli_a:app, cli_d:app"


def test_a_missing_module_names_the_near_one(write: Write) -> None:
    write("cli_tasks.py", TASK)
    error = refused("cli_tasx")
    assert error.message == "there is no module 'cli_tasx'"
    assert error.hint == "did you mean 'cli_tasks'?"


@pytest.mark.parametrize("spec", ["", " ", ":app"])
def test_an_empty_word_is_told_as_that(spec: str) -> None:
    error = refused(spec)
    assert error.message == f"{spec!r} names no module"
    assert error.hint == "MODULE, MODULE:APP or file.py; is a shell's variable empty?"


def test_a_missing_file() -> None:
    assert refused("cli_nowhere.py").message.startswith("there is no file ")


def test_a_failing_import_shows_the_users_own_line(write: Write) -> None:
    path = write("cli_e.py", "import json\n\n\njson.loads('{')\n")
    message = refused("cli_e").message
    assert message.startswith("module 'cli_e' fails to import: JSONDecodeError: ")
    assert message.endswith(f"\n  File \"{path}\", line 4\n    json.loads('{{')")


def test_a_missing_dependency_of_the_module_is_not_a_missing_module(write: Write) -> None:
    path = write("cli_f.py", "import cli_no_such_library\n")
    message = refused("cli_f").message
    assert message.startswith(
        "module 'cli_f' fails to import: ModuleNotFoundError: No module named 'cli_no_such_library'"
    )
    assert f'File "{path}", line 1' in message


def test_a_syntax_error_names_its_line(write: Write) -> None:
    path = write("cli_g.py", "x = 1\ndef f(:\n")
    assert refused("cli_g.py").message.endswith(f'\n  File "{path}", line 2')


def test_jetqs_own_refusal_is_one_sentence_with_its_hint(write: Write) -> None:
    write("cli_h.py", "from jetq import task\n@task(max_atempts=2)\ndef f() -> None: ...\n")
    error = refused("cli_h")
    assert error.message.startswith("module 'cli_h' fails to import: @task has no option 'max_atempts'\n")
    assert error.hint is not None and "max_attempts" in error.hint


def test_a_file_with_the_name_of_a_library(write: Write) -> None:
    write("json.py", TASK)
    error = refused("json.py")
    assert error.message.startswith("json.py has the name of another module")
    assert error.hint == "rename the file"


def test_a_file_that_is_no_identifier(write: Write) -> None:
    write("my-tasks.py", TASK)
    assert "is no module name" in refused("my-tasks.py").message


def test_the_module_of_a_task_is_found_by_the_longest_name(write: Write) -> None:
    write("cli_pkg/__init__.py", "")
    write("cli_pkg/jobs.py", TASK)
    load_app([])
    assert import_module_of_task("cli_pkg.jobs.f") == "cli_pkg.jobs"
    assert import_module_of_task("cli_pkg.jobs.Class.f") == "cli_pkg.jobs"
    assert import_module_of_task("cli_pkg.nothing") == "cli_pkg"
    assert import_module_of_task("cli_elsewhere.f") is None
    assert import_module_of_task("bare") is None


def test_the_module_of_a_task_that_fails_is_not_taken_for_missing(write: Write) -> None:
    write("cli_bad/__init__.py", "import cli_no_such_library\n")
    load_app([])
    with pytest.raises(Failed, match=r"module 'cli_bad\.tasks' fails to import: ModuleNotFoundError"):
        import_module_of_task("cli_bad.tasks.f")


def test_a_file_in_a_directory_that_is_no_package_is_warned_of(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("cli_space/cli_jobs.py", TASK)
    assert set(load_app(["cli_space/cli_jobs.py"]).tasks) >= {"cli_jobs.f"}
    assert capsys.readouterr().err == (
        "warning: cli_space/cli_jobs.py is imported as 'cli_jobs', so its tasks are called cli_jobs.*; "
        "code here that imports it as 'cli_space.cli_jobs' enqueues others\n"
        "hint: for `from cli_space.cli_jobs import ...` write cli_space.cli_jobs in place of cli_space/cli_jobs.py\n"
    )


def test_the_module_it_hints_at_has_the_producers_name(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("cli_space/cli_jobs.py", TASK)
    assert set(load_app(["cli_space.cli_jobs"]).tasks) >= {"cli_space.cli_jobs.f"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["src", "here", "package", "project", "on the path", "no identifier"])
def test_a_file_whose_name_is_no_question_is_not(
    write: Write, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = {"src": "src/", "here": "", "package": "cli_pack/", "no identifier": "cli-space/"}.get(
        place, "cli_space/"
    )
    path = write(f"{directory}cli_jobs.py", TASK)
    if place == "package":
        write("cli_pack/__init__.py", "")
    if place == "project":
        write("cli_space/pyproject.toml", "")
    if place == "on the path":
        monkeypatch.syspath_prepend(tmp_path / "cli_space")
    load_app([str(path)])
    assert capsys.readouterr().err == ""
