"""`jetq server`: a local nats-server in the foreground."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from jetq.cli.app_option import LOCAL
from jetq.cli.exit import BROKER, Failed, verbose_option
from jetq.server import GIB, LocalServer

__all__ = ["server"]


@click.command()
@click.option(
    "--dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=LOCAL,
    show_default=True,
    help="Where the server keeps its data. A directory serves one server at a time.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4222,
    show_default=True,
    help="The port to listen on; 0 for a free one.",
)
@click.option(
    "--max-store",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="The most disk space that the server uses, in GiB.",
)
@verbose_option
def server(dir: Path, port: int, max_store: int) -> None:
    """Run a nats-server for development, on this machine's loopback interface, until Ctrl-C.

    Commands run in a directory find the server that keeps its data in .jetq there.
    """
    local = LocalServer(dir, port=port, max_file_store=max_store * GIB)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())
    with local:
        click.echo(f"nats-server on {local.url}, data in {dir}")
        while local.running and not stopping.wait(0.2):
            pass
        if not stopping.is_set():
            raise Failed("nats-server has ended", hint=f"see {dir / 'nats-server.log'}", code=BROKER)
