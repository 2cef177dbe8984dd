"""The reference names everything that there is, the links lead somewhere, and the snippets are Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from docs import generate
from jetq import errors
from jetq.model.worker_status import HeldJob, WorkerStatus
from jetq.operations.job_view import JobView
from jetq.operations.why_waiting import _running
from jetq_email.providers import PROVIDERS
from jetq_email.settings import Settings as MailSettings
from jetq_email.settings.webhook_secrets import WebhookSecrets
from tests.unit.test_architecture import FLOORS

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("path", generate.PAGES, ids=lambda path: path.name)
def test_what_is_taken_from_the_code_is_as_the_code_says_it(path: Path) -> None:
    assert path.read_text("utf-8") == generate.page(path), "run `make docs`"


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    above: list[str] = []
    found = []
    for line in (errors.__doc__ or "").partition("\n\n")[2].splitlines():
        parsed = re.match(r"((?:[|` ][- ]{3})*)(\w+)", line)
        assert parsed is not None, line
        depth, name = len(parsed[1]) // 4, parsed[2]
        above[depth:] = [name]
        found.append(name)
        own = [base.__name__ for base in getattr(errors, name).__bases__ if base.__name__ in errors.__all__]
        assert (above[depth - 1] in own) if depth else not own, name
    assert sorted(found) == errors.__all__


GLOSSARY = ROOT / "docs/reference/glossary.md"
WORDS = re.findall(r"^\| ([a-z][a-z -]+) \|", GLOSSARY.read_text("utf-8").partition("|---")[2], re.MULTILINE)


def test_the_glossary_is_sorted_and_has_a_line_for_each_word() -> None:
    assert WORDS == sorted(set(WORDS))
    lines = GLOSSARY.read_text("utf-8").partition("|---|---|\n")[2].splitlines()
    assert len(lines) == len(WORDS)
    assert [line for line in lines if not re.fullmatch(r"\| [a-z -]+ \| .*\. \|", line)] == []


def test_every_word_of_the_glossary_is_used() -> None:
    """The code may have it within a name of several words."""
    files = [page for page in PAGES if page != GLOSSARY] + sorted((ROOT / "jetq").rglob("*.py"))
    text = " ".join(" ".join(file.read_text("utf-8").lower().replace("_", " ").split()) for file in files)
    assert [word for word in WORDS if re.search(rf"\b{word}", text) is None] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/explanation/architecture.md"])
def test_each_file_and_folder_that_is_named_exists(page: str) -> None:
    """By its whole path, or by its end where the rest was said before."""
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.md|/))`", (ROOT / page).read_text("utf-8")))
    there = {f"/{path.relative_to(ROOT)}" + "/" * path.is_dir() for path in (ROOT / "jetq").rglob("*")}
    assert len(named) > 20
    assert [
        name
        for name in sorted(named)
        if not (ROOT / name).exists() and not any(path.endswith(f"/{name}") for path in there)
    ] == []


def test_the_table_of_floors_is_that_of_the_architecture_test() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", page, re.MULTILINE)
    shown: dict[int, set[str]] = {}
    for floor, parts in rows:
        paths = {Path(path).with_suffix("") for path in re.findall(r"`(.*?)`", parts)}
        names = {".".join(path.parts).removesuffix(".__init__") for path in paths}
        shown.setdefault(int(floor), set()).update(names)
    assert shown == {floor: set(names.split()) for floor, names in FLOORS.items()}


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
    worker = WorkerStatus("web1-4711-783a", "web1", 4711, "1", 0.0, 5, 1, held=HeldJob(waits="rate"))
    told = _running(job, [worker])
    assert f"running: {told}" in (ROOT / "docs/how-to/limit.md").read_text().splitlines()


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
