"""Every option of every verb: its variable is named after its flag, and is no unknown setting."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from jetq.cli.option_variables import check_variables, variables
from jetq.cli.root import cli
from jetq.errors import SettingsError
from jetq.settings import from_jetq_environment


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    yield from ((path, each) for each in command.params if isinstance(each, click.Option))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options(below, (*path, name))


OPTIONS = [
    (path, option)
    for path, option in options(cli)
    if option.name not in ("version", "help") and (option.envvar is not None or option.allow_from_autoenv)
]


def verb(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def test_the_verbs_are_looked_at_too() -> None:
    assert {path[0] for path, _ in OPTIONS if path} >= {"worker", "dlq", "queue"}


@pytest.mark.parametrize(
    ("path", "option"), OPTIONS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_an_option_has_a_variable_that_settings_leave_alone(path: tuple[str, ...], option: click.Option) -> None:
    assert option.name is not None
    if option.envvar is None:
        flags = {flag.removeprefix("--").replace("-", "_") for flag in option.opts}
        assert option.name in flags, "auto_envvar_prefix names the variable after the parameter"
    variable = str(option.envvar or "_".join(("JETQ", *path, option.name)).upper())
    assert from_jetq_environment({variable: "1"}) == {}
    if path:
        assert variable in set(variables(verb(path[0]), path[0]))
        check_variables(verb(path[0]), path[0], {variable: "1"})


@pytest.mark.parametrize(
    ("command", "variable", "hint"),
    [
        ("worker", "JETQ_WORKER_CONCURENCY", "did you mean JETQ_WORKER_CONCURRENCY?"),
        ("worker", "JETQ_WORKER_LOGLEVEL", "did you mean JETQ_WORKER_LOG_LEVEL?"),
        ("worker", "JETQ_WORKER_LIFELINE", "`jetq worker --help` lists the options"),
        ("worker", "JETQ_WORKER_ZZZ", "`jetq worker --help` lists the options"),
        ("queue", "JETQ_QUEUE_PAUSE_FRO", "did you mean JETQ_QUEUE_PAUSE_FOR?"),
        ("dlq", "JETQ_DLQ_REPLAY_RTE", "did you mean JETQ_DLQ_REPLAY_RATE?"),
    ],
)
def test_a_misspelt_variable_of_a_command_is_told_with_the_right_one(command: str, variable: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_variables(verb(command), command, {"PATH": "/bin", variable: "5"})
    assert caught.value.message == f"the environment variable {variable} is none of jetq's"
    assert caught.value.hint == hint


def test_a_setting_that_is_named_like_an_option_is_left_alone_and_is_still_a_setting() -> None:
    room = {"JETQ_WORKFLOW_MAX_BYTES": "1048576"}
    check_variables(verb("workflow"), "workflow", room)
    assert from_jetq_environment(room)["workflow_max_bytes"].value == "1048576"
    with pytest.raises(SettingsError, match="JETQ_WORKFLOW_MAX_BTES"):
        check_variables(verb("workflow"), "workflow", {"JETQ_WORKFLOW_MAX_BTES": "1048576"})


def test_variables_of_other_commands_and_of_services_are_left_alone() -> None:
    others = {"JETQ_DEV_PROT": "1", "JETQ_WORKER_SERVICE_HOST": "h", "JETQ_WORKER_PORT": "tcp://10.0.0.1:80"}
    check_variables(verb("worker"), "worker", others)


def test_a_misspelt_setting_is_still_noticed() -> None:
    with pytest.raises(SettingsError, match="JETQ_SERVER"):
        from_jetq_environment({"JETQ_SERVER": "nats://127.0.0.1"})
