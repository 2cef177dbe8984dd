"""Every option of every verb: its variable is named after its flag, and is no unknown setting."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from jetq.cli.root import cli
from jetq.errors import SettingsError
from jetq.settings import from_jetq_environment


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    yield from ((path, each) for each in command.params if isinstance(each, click.Option))
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from options(below, (*path, name))


OPTIONS = [(path, option) for path, option in options(cli) if option.name not in ("version", "help")]


@pytest.mark.parametrize(
    ("path", "option"), OPTIONS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_an_option_has_a_variable_that_settings_leave_alone(path: tuple[str, ...], option: click.Option) -> None:
    assert option.name is not None
    if option.envvar is None:
        flags = {flag.removeprefix("--").replace("-", "_") for flag in option.opts}
        assert option.name in flags, "auto_envvar_prefix names the variable after the parameter"
    variable = option.envvar or "_".join(("JETQ", *path, option.name)).upper()
    assert from_jetq_environment({str(variable): "1"}) == {}


def test_a_misspelt_setting_is_still_noticed() -> None:
    with pytest.raises(SettingsError, match="JETQ_SERVER"):
        from_jetq_environment({"JETQ_SERVER": "nats://127.0.0.1"})
