"""The reference names everything that there is, the links lead somewhere, and the snippets are Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from jetq import errors
from jetq.cli.root import cli
from jetq.model.worker_status import Answer, Held
from jetq.operations.job_view import JobView
from jetq.operations.why_waiting import _running
from jetq.settings import Settings
from jetq_email.providers import PROVIDERS
from jetq_email.settings import Settings as MailSettings
from jetq_email.settings.webhook_secrets import WebhookSecrets

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner is not None
            yield from _commands(inner, f"{name} {each}")
    else:
        yield name, command


def test_every_setting_is_described_with_its_default() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text()
    defaults = Settings()
    for name in Settings.__struct_fields__:
        value = getattr(defaults, name)
        shown = "" if value is None else f"`{','.join(value) if isinstance(value, tuple) else value}`"
        assert f"| `{name}` | `JETQ_{name.upper()}` | {shown} |" in text


def test_every_error_is_described() -> None:
    text = (ROOT / "docs/reference/errors.md").read_text()
    for name in errors.__all__:
        assert f"`{name}`" in text


def test_every_command_is_described_as_its_help_does_it() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    for name, command in _commands(cli, "jetq"):
        _, found, section = page.partition(f"## {name}\n")
        assert found, name
        section = _plain(section.partition("\n## ")[0])
        for paragraph in (command.help or "").split("\n\n"):
            assert _plain(paragraph) in section, (name, paragraph)
        for row in _option_rows(name, command):
            assert _plain(row) in section, (name, row)


def _option_rows(name: str, command: click.Command) -> Iterator[str]:
    """The options of a command as rows of a table."""
    context = click.Context(command, info_name=name)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and "--help" not in parameter.opts:
            record = parameter.get_help_record(context)
            assert record is not None
            yield f"| `{record[0]}` | {record[1]} |"


def _plain(text: str) -> str:
    """The text without blanks and marks; versions of click put other signs between choices."""
    return re.sub(r"[\s`*\\$\b]", "", text).replace("|", "/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_snippets_parse(page: Path) -> None:
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        ast.parse(snippet)


def test_a_job_that_waits_for_its_rate_is_told_as_the_page_shows_it() -> None:
    job = JobView(id="a", task="tasks.f", queue="mail", state="running", attempt=1)
    worker = Answer("web1-4711-783a", "web1", 4711, "1", 0.0, 5, 1, held=Held(waits="rate"))
    told = _running(job, [worker])
    assert f"running: {told}" in (ROOT / "docs/how-to/limit.md").read_text().splitlines()


def test_every_test_that_a_promise_names_exists() -> None:
    named = 0
    for page in [*PAGES, *(ROOT / "jetq").rglob("*.py")]:
        for path in re.findall(r"tests/[\w/]+(?:\.py)?", page.read_text()):
            named += 1
            assert (ROOT / path).exists(), f"{page.name} names {path}"
    assert named > 10


def test_every_setting_of_mail_is_described_with_its_default() -> None:
    text = (ROOT / "docs/reference/mail-settings.md").read_text()
    for name, default, needed in _mail_settings():
        variable = f"**`JETQ_EMAIL_{name}`**" if needed else f"`JETQ_EMAIL_{name}`"
        shown = "" if default in (None, (), msgspec.NODEFAULT) else f"`{default}`"
        assert f"| {variable} | {shown} | " in text, name


def _mail_settings() -> Iterator[tuple[str, object, bool]]:
    """Each variable behind its prefix, its default, and whether a provider cannot do without."""
    for own in msgspec.structs.fields(MailSettings):
        provider = PROVIDERS.get(own.name)
        if own.name == "webhooks":
            continue
        if provider is None:
            yield own.name.upper(), own.default, False
        else:
            for field in msgspec.structs.fields(provider):
                yield f"{own.name}_{field.name}".upper(), field.default, field.required


def test_every_secret_of_a_webhook_is_described() -> None:
    text = (ROOT / "docs/reference/mail-settings.md").read_text()
    for name in WebhookSecrets.__struct_fields__:
        assert f"| `JETQ_EMAIL_{name.upper()}` | " in text
