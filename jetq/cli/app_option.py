"""The app whose settings a command uses, and a broker for that app: the app of the command line, else the
environment's.

Only commands look for a server that `jetq dev` or `jetq server` runs in the working directory. The library does not: a
program would then connect to another server when it is started in another directory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from jetq.broker import Broker
from jetq.cli import logs
from jetq.cli.app_loading import load_app
from jetq.cli.exit import is_verbose
from jetq.client.app import Jetq
from jetq.client.settings_sources import load_settings
from jetq.server import running_at
from jetq.settings import DEFAULT_SERVER

__all__ = ["LOCAL", "ask_broker", "choose_app", "for_app", "use_local_server"]

LOCAL = Path(".jetq")
"""The directory in which the local server of a working directory keeps its files."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def for_app(command: F) -> F:
    """Add the option `--app`, which names the app whose settings the command uses."""
    option = click.option(
        "-A", "--app", "app_path", envvar="JETQ_APP", metavar="MODULE[:APP]", help="Use this app's settings."
    )
    return option(command)


def choose_app(*app_paths: str | None) -> Jetq:
    """Return the app that `app_paths` name; without `app_paths`, the default app. Raises Failed as `load_app` does."""
    use_local_server()
    return load_app([app_path for app_path in app_paths if app_path is not None])


def use_local_server() -> None:
    """Let apps connect to the local server of this directory, if it runs.

    A server that the app's code, the environment or a file of settings names comes first.
    """
    if any(name in os.environ for name in ("JETQ_SERVERS", "NATS_URL", "NATS_CONTEXT")):
        return
    if load_settings({}).servers != (DEFAULT_SERVER,):
        return
    if (url := running_at(LOCAL)) is not None:
        os.environ["NATS_URL"] = url


def ask_broker(app: Jetq, question: Callable[[Broker], Awaitable[T]]) -> T:
    """Call `question` with a connected broker, and return what `question` returns.

    Only errors are logged (with -v all lines from debug on), because this function raises what goes wrong.
    """
    logs.set_up("console", "debug" if is_verbose() else "error")

    async def ask() -> T:
        try:
            return await question(await app.session.broker())
        finally:
            await app.session.aclose()

    return asyncio.run(ask())
