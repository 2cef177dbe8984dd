"""Groups of verbs. The error for a mistyped verb suggests the nearest verb."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import click

from jetq.cli.exit import Failed

__all__ = ["Verbs"]

_ALIKE = (
    "ls list",
    "rm remove delete del drop",
    "purge clear empty flush",
    "show info get view",
    "replay retry requeue",
)
"""Each text holds verbs that mean the same to users, even if they are spelt differently."""


class Verbs(click.Group):
    """A group of commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click. Raises Failed for a verb that does not exist, with the verb that the user may have meant."""
        word = args[0]
        if not ctx.resilient_parsing and not word.startswith("-") and self.get_command(ctx, word) is None:
            near = _nearest(word, self.list_commands(ctx))
            path = ctx.command_path
            hint = f"{path} --help" if near is None else f"did you mean `{path} {near}`? See {path} --help"
            raise Failed(f"No such command '{word}'.", hint=hint)
        return super().resolve_command(ctx, args)


def _nearest(word: str, verbs: Iterable[str]) -> str | None:
    """Return the verb that means the same as `word`, else the verb that is spelt most like `word`; None if there is
    neither."""
    verbs = list(verbs)
    meant = {each for group in map(str.split, _ALIKE) if word in group for each in group}
    near = [verb for verb in verbs if verb in meant] or get_close_matches(word, verbs, n=1)
    return near[0] if near else None
