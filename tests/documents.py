"""What the pages of the documentation show: their blocks, files, commands and code in running text."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import click

from jetq.cli.exit import Failed
from jetq.cli.root import cli

__all__ = [
    "PAGES",
    "ROOT",
    "Block",
    "Command",
    "blocks",
    "check_command_line",
    "commands",
    "files",
    "in_text",
    "page_id",
]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
"""What users read."""

_FILE_NAME = re.compile(r"# (\S+\.\w+)\n")


def page_id(page: object) -> str:
    """The name of a page in the id of a test."""
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(page)


@dataclass(frozen=True)
class Block:
    """The `text` between two fences of the page, and the `language` behind the first."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, from its first line."""
        named = _FILE_NAME.match(self.text) if self.language == "python" else None
        return named and named[1]


@dataclass(frozen=True)
class Command:
    """What stands after a `$`, with what is `shown` below it."""

    line: str
    shown: str


def blocks(page: Path) -> list[Block]:
    """Those of the page, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(language, text) for language, text in found]


def files(page: Path) -> dict[str, str]:
    """The files that the page shows, by name."""
    return {block.file: block.text.partition("\n")[2] for block in blocks(page) if block.file is not None}


def commands(block: Block) -> list[Command]:
    """Those of a console block, in order."""
    parts = [part.partition("\n") for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
    return [Command(line, shown.strip()) for line, _, shown in parts]


def in_text(page: Path) -> list[str]:
    """What stands between backticks outside of the blocks, each on one line."""
    text = re.sub(r"^```\w*\n.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


# --- command lines


_NO_COMMAND = (click.exceptions.NoArgsIsHelpError,) if hasattr(click.exceptions, "NoArgsIsHelpError") else ()
"""What click raises from 8.2 on for a group alone, of which it showed the help before."""


def check_command_line(line: str, *, whole: bool) -> None:
    """Read a line that begins with `jetq` as the command line does, and do nothing.

    whole: nothing may be missing at its end. `a|b` stands for each of the two, a word in capitals for any value, and
    one in brackets for what may be left out. Raises click.UsageError for a command, option or value that there is not.
    """
    left_out = re.compile(r"\[.*\](\.\.\.)?|\.\.\.|COMMAND")
    given = [each for each in shlex.split(line, comments=True)[1:] if not left_out.fullmatch(each)]
    for words in itertools.product(*(each.split("|") for each in given)):
        try:
            _read([word.removesuffix("...") for word in words])
        except click.UsageError as error:
            missing = isinstance(error, (click.MissingParameter, click.BadOptionUsage, *_NO_COMMAND))
            any_value = isinstance(error, click.BadParameter) and any(
                re.fullmatch(r"[A-Z\[\]:_]+", word) and word in error.message for word in words
            )
            if any_value or (missing and not whole):
                continue
            raise


def _read(words: list[str]) -> None:
    with patch.object(click.Command, "invoke", lambda *_: None):  # of what stands below the groups
        try:
            with cli.make_context("jetq", words) as context:
                cli.invoke(context)
        except click.exceptions.Exit:  # of --help
            pass
        except Failed as error:
            raise click.UsageError(error.message) from None
