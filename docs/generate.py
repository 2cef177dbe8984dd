"""The parts of the reference pages that are made from the code: `make docs` writes them anew.

A page is written by hand but for what is between `<!-- NAME -->` and `<!-- end -->`: tables of the fields of a struct,
from the string under each field; the errors, from their docstrings; the commands, from their help.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from jetq import errors
from jetq.cli.root import cli
from jetq.model.definitions.keywords import CallOptions, TaskKeywords
from jetq.model.definitions.options import TaskOptions
from jetq.model.definitions.queue import Queue
from jetq.model.definitions.schedule import Schedule
from jetq.settings import Settings

__all__ = ["PAGES", "commands", "field_docs", "page"]

REFERENCE = Path(__file__).parent / "reference"

LINKS = {
    "for records": "for [records](../how-to/keep-records.md)",
    "The installed plugins": "The installed [plugins](../how-to/write-a-plugin.md)",
    "five fields (": "[five fields](../how-to/run-on-a-schedule.md) (",
    "See `Schedule`": "See [`Schedule`](#schedules)",
    "in a queue that has levels": "in a queue that has [levels](../how-to/priorities.md)",
    "The unique key": "The [unique key](../how-to/unique-jobs.md)",
    "tenacity wait strategy": "[tenacity wait strategy](../how-to/retry.md)",
    "over all workers": "[over all workers](../how-to/limit.md)",
}
"""What a page makes of words of the code, which has no links."""

UNTOLD_DEFAULTS = {"run_in", "result_ttl"}
"""Options whose default depends on the function: the string under the field says how."""

ORDER = (
    "dev server worker call queue job schedule dlq setup doctor plugins email "  # of jetq
    "ls list show queues"  # of a verb's own verbs
).split()
"""Verbs in the order in which somebody meets them; other verbs come after these, as their group has them."""

NOTES = {
    "jetq setup queues": "The word `queues` may be left out.",
    "jetq setup acl": "They are printed as nats-server's configuration: [permissions](../how-to/give-permissions.md).",
    "jetq doctor": "The codes it prints are explained in [check a deployment](../how-to/check-a-deployment.md).",
    "jetq email preview": "The command comes with the extra `email`.",
    "jetq email report": "The command comes with the extra `email`.",
}
"""What a page says of a command besides its help."""


def field_docs(struct: type) -> dict[str, str]:
    """Return the string under each field of `struct`, on one line; fields without one are left out."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


# --- settings and options


def settings() -> str:
    """Return the table of all settings."""
    defaults = _defaults(Settings)
    rows = [
        (f"`{name}`", f"`JETQ_{name.upper()}`", defaults[name], _linked(text))
        for name, text in field_docs(Settings).items()
    ]
    return _table(("setting", "variable", "default", "meaning"), rows)


def options(keywords: type, defaults: type[msgspec.Struct] | None) -> str:
    """Return the table of the options that `keywords` declares, with the defaults of a struct that has the same."""
    shown = {} if defaults is None else _defaults(defaults)
    rows = [
        (f"`{name}`", "" if name in UNTOLD_DEFAULTS else shown.get(name, ""), _linked(text))
        for name, text in field_docs(keywords).items()
    ]
    if defaults is None:
        return _table(("option", "meaning"), [(name, text) for name, _, text in rows])
    return _table(("option", "default", "meaning"), rows)


def _defaults(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The default of each field as a page shows it: None, an empty tuple and none at all are not shown."""
    # `msgspec.structs.fields` would evaluate annotations: some name types that only type checkers see.
    names, values = struct.__struct_fields__, struct.__struct_defaults__
    shown = dict.fromkeys(names, "")
    for name, value in zip(names[len(names) - len(values) :], values, strict=True):
        text = ",".join(value) if isinstance(value, tuple) else value
        shown[name] = f"`{text}`" if isinstance(value, bool | int | float | str | tuple) and value != () else ""
    return shown


def _linked(text: str) -> str:
    for words, link in LINKS.items():
        text = text.replace(words, link)
    return text


# --- errors


def error_tree() -> str:
    """Return the tree of the errors, which the docstring of their module has."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip()
    return f"```text\n{tree}\n```\n"


def error_table() -> str:
    """Return what each error means: the first paragraph of its docstring."""
    rows = [(f"`{name}`", _paragraphs(getattr(errors, name))[0]) for name in errors.__all__]
    return _table(("class", "meaning"), rows)


def error_details() -> str:
    """Return a section for each error whose docstring says more than its first paragraph."""
    details = {name: _paragraphs(getattr(errors, name))[1:] for name in errors.__all__}
    return "\n\n".join("\n\n".join([f"### {name}", *more]) for name, more in details.items() if more) + "\n"


def _paragraphs(thing: type) -> list[str]:
    """The paragraphs of a docstring, each on one line but for one of parameters, which is a list of them."""
    texts = (inspect.getdoc(thing) or "").split("\n\n")
    return ["\n".join(map(_item, re.split(r"\n(?=[a-z_]+: )", text))) for text in texts]


def _item(text: str) -> str:
    return re.sub(r"\A([a-z_]+): ", r"- `\1`: ", " ".join(text.split()))


# --- commands


def command_sections() -> str:
    """Return a section for each command: its usage, its help and its options."""
    return "\n".join(_section(name, command) for name, command in commands())


def commands(command: click.Command = cli, name: str = "jetq") -> Iterator[tuple[str, click.Command]]:
    """Yield each command that is no group, with its whole name."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    verbs = command.list_commands(context)
    for each in sorted(verbs, key=[*ORDER, *command.commands, *verbs].index):
        inner = command.get_command(context, each)
        assert inner is not None
        yield from commands(inner, f"{name} {each}")


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    rows = list(_option_rows(command, context))
    usage = [piece for piece in command.collect_usage_pieces(context) if rows or piece != "[OPTIONS]"]
    parts = [f"## {name}", f"`{' '.join([name, *usage])}`", *map(_shown, _help(command)), NOTES.get(name, "")]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text + ("\n" + _table(("option", ""), rows) if rows else "")


def _help(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").split("\n\n")


def _shown(paragraph: str) -> str:
    """A paragraph of a help as a page shows it: one whose lines click keeps is what somebody types, or a list."""
    if not paragraph.startswith("\b\n"):
        return re.sub(r"(?<!`)(\*\*\*|\$\w+)", r"`\1`", " ".join(paragraph.split()))
    lines = paragraph.removeprefix("\b\n").splitlines()
    typed = [f"$ {line}" if line.startswith("jetq ") else line for line in lines]
    return "\n".join(["```console" if typed != lines else "```text", *typed, "```"])


def _option_rows(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and "--help" not in parameter.opts:
            record = parameter.get_help_record(context)
            assert record is not None
            metavar, text = record
            yield "`" + metavar.replace("|", r"\|") + "`", " ".join(text.split())


# --- pages


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0].replace("|  |", "| |"), "|---" * len(head) + "|", *lines[1:]]) + "\n"


PAGES: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    REFERENCE / "settings.md": {"settings": settings},
    REFERENCE / "options.md": {
        "tasks": lambda: options(TaskKeywords, TaskOptions),
        "calls": lambda: options(CallOptions, None),
        "schedules": lambda: options(Schedule, Schedule),
        "queues": lambda: options(Queue, Queue),
    },
    REFERENCE / "errors.md": {"tree": error_tree, "errors": error_table, "details": error_details},
    REFERENCE / "cli.md": {"commands": command_sections},
}
"""The pages, and what is made of the code under which name."""


def page(path: Path) -> str:
    """Return the text of the page `path` with its generated parts as they have to be."""
    text = path.read_text("utf-8")
    for name, generate in PAGES[path].items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->\n")
        assert start and end, f"{path.name} has no <!-- {name} --> ... <!-- end -->"
        text = f"{before}{start}\n{generate()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path), "utf-8")
