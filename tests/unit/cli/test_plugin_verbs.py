"""Commands that plugins bring to the command line: found last, imported when asked for, and no harm to the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import click
import pytest
from click.testing import CliRunner

from jetq.cli import root
from jetq.cli.exit import Failed
from jetq.cli.root import cli
from jetq.client.plugins import load_verb, verbs
from jetq.errors import PluginError

VERB = """
import click

@click.command()
@click.option("--size", type=int, default=1)
def acme(size):
    "What acme does."
    click.echo(f"acme {size}")
"""


class Install(Protocol):
    """Puts a distribution with a command `acme` on the path."""

    def __call__(self, distribution: str, entry: str, **modules: str) -> None: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, entry: str, **modules: str) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[jetq.verbs]\n{entry}\n")
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)

    yield install
    for name in set(sys.modules) - before:
        if not name.startswith("jetq."):  # of which other tests hold parts
            del sys.modules[name]


def run(*words: str) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(cli, words, prog_name="jetq")
    return result.exit_code, result.output, result.exception


def test_a_plugins_command_is_one_of_jetqs(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-mail", "acme = acme_cli:acme", acme_cli=VERB)
    monkeypatch.setenv("JETQ_ACME_COLOUR", "of the plugin's own, and not to be judged")
    assert "acme" in verbs()
    assert run("acme", "--size", "3") == (0, "acme 3\n", None)
    code, shown, _ = run("--help")
    assert code == 0 and "acme      What acme does." in shown


def test_commands_of_jetq_are_found_without_asking_for_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker starts as quickly with many distributions installed."""

    def asked(*_: object) -> None:
        raise AssertionError("nobody has asked for a plugin's command")

    monkeypatch.setattr(root, "load_verb", asked)
    monkeypatch.setattr(root, "verbs", asked)
    assert run("worker", "--help")[0] == 0


def test_a_plugin_takes_no_command_of_jetq(install: Install) -> None:
    install("acme-mail", "worker = acme_cli:acme", acme_cli=VERB)
    assert "APP is MODULE" in run("worker", "--help")[1]
    assert cli.list_commands(click.Context(cli)).count("worker") == 1


@pytest.mark.parametrize(
    ("entry", "source", "message", "hint"),
    [
        (
            "acme = acme_cli:acme [mail]",
            "import acme_needs",
            "the command 'acme' needs acme-mail[mail]: No module named 'acme_needs'",
            "pip install 'acme-mail[mail]'",
        ),
        (
            "acme = acme_cli:acme",
            "import acme_needs",
            "the command 'acme' of acme-mail 1.0 cannot be imported: ModuleNotFoundError: No module named 'acme_needs'",
            "mend or uninstall that distribution",
        ),
        (
            "acme = acme_cli:gone",
            VERB,
            "the command 'acme' of acme-mail 1.0 cannot be imported: AttributeError: ",
            "mend or uninstall that distribution",
        ),
        (
            "acme = acme_cli:acme",
            "acme = 3",
            "what a plugin names as the command 'acme' is no command of click's",
            None,
        ),
    ],
    ids=["extra", "import", "gone", "no-command"],
)
def test_one_that_cannot_be_used_says_so_when_it_is_asked_for(
    install: Install, entry: str, source: str, message: str, hint: str | None
) -> None:
    install("acme-mail", entry, acme_cli=source)
    code, _, error = run("acme", "some", "--words", "-x")
    assert isinstance(error, PluginError)
    assert error.message.startswith(message) and error.hint == hint
    code, shown, _ = run("--help")
    assert code == 0 and "the command 'acme'" in shown


def test_two_that_bring_the_same_are_both_named(install: Install) -> None:
    install("acme-mail", "acme = acme_cli:acme", acme_cli=VERB)
    install("acme-post", "acme = acme_cli:acme")
    with pytest.raises(PluginError, match="acme-mail and acme-post both bring the command 'acme'"):
        load_verb("acme")


def test_a_mistyped_one_is_answered_with_the_nearest(install: Install) -> None:
    install("acme-mail", "acme = acme_cli:acme", acme_cli=VERB)
    error = run("acmee")[2]
    assert isinstance(error, Failed)
    assert error.hint == "did you mean `jetq acme`? See jetq --help"
