"""Which app a command speaks for, and a broker for it: the app on the command line, else the environment's.

A server that `jetq dev` or `jetq server` runs in this directory is found here, and only by commands: a library that
looked into the working directory would connect elsewhere when started elsewhere.
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
"""Where the local server of a directory keeps its files."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def for_app(command: F) -> F:
    """Adds `--app`: whose settings a command uses."""
    option = click.option(
        "-A", "--app", "spec", envvar="JETQ_APP", metavar="MODULE[:APP]", help="Use this app's settings."
    )
    return option(command)


def choose_app(*specs: str | None) -> Jetq:
    """The app that `specs` name, else the default one. Raises Failed."""
    use_local_server()
    return load_app([spec for spec in specs if spec is not None])


def use_local_server() -> None:
    """Let apps that say no server connect to the one of this directory, if it runs and nothing else is set."""
    if any(name in os.environ for name in ("JETQ_SERVERS", "NATS_URL", "NATS_CONTEXT")):
        return
    if load_settings({}).servers != (DEFAULT_SERVER,):
        return
    if (url := running_at(LOCAL)) is not None:
        os.environ["NATS_URL"] = url


def ask_broker(app: Jetq, question: Callable[[Broker], Awaitable[T]]) -> T:
    """What `question` returns for a connected broker. What goes wrong is raised, so nothing is logged besides."""
    logs.set_up("console", "debug" if is_verbose() else "error")

    async def ask() -> T:
        try:
            return await question(await app.session.broker())
        finally:
            await app.session.aclose()

    return asyncio.run(ask())
