"""`jetq worker`: what to serve, the signals, and how it ended. The work itself is done by `jetq.worker`."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import signal
from collections.abc import Callable

import click

from jetq.app import Jetq
from jetq.cli.banner import example, introduce
from jetq.cli.choosing import choose_app
from jetq.cli.failing import FAILED, Failed, is_verbose, verbose_option
from jetq.cli.logs import LogFormat, set_up
from jetq.worker import Worker

__all__ = ["worker"]

_log = logging.getLogger("jetq.worker")


def _not_yet(_context: click.Context, _parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        raise click.UsageError("--processes is not available yet; start several workers: they share the queues")


@click.command()
@click.argument("apps", metavar="[APP]...", nargs=-1)
@click.option("-q", "--queue", multiple=True, help="Serve this queue; every queue of the tasks without.")
@click.option("-c", "--concurrency", type=click.IntRange(min=1), default=100, show_default=True, help="Jobs at once.")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    help="Seconds that running jobs get at shutdown.",
)
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
)
@click.option("--plugins/--no-plugins", default=True, help="Serve the tasks of installed plugins.")
@click.option("--plugin", multiple=True, metavar="NAME", help="Of the plugins, only this one.")
@click.option("--uvloop/--no-uvloop", default=None, help="Use uvloop; where it is installed without.")
@click.option("--processes", type=int, hidden=True, expose_value=False, callback=_not_yet)
@click.option("--show-example", is_flag=True, hidden=True)
@verbose_option
def worker(
    apps: tuple[str, ...],
    queue: tuple[str, ...],
    concurrency: int,
    burst: bool,
    grace: float,
    log_format: LogFormat,
    log_level: str,
    plugins: bool,
    plugin: tuple[str, ...],
    uvloop: bool | None,
    show_example: bool,
) -> None:
    """Run the jobs of the tasks that the modules APP define.

    APP is MODULE, MODULE:APP or file.py. The first SIGTERM or Ctrl-C lets running jobs end within the grace time, the
    second gives them back at once.
    """
    set_up(log_format, "debug" if is_verbose() else log_level)
    app = choose_app(*apps)
    sample = example(app.tasks) if show_example else None
    if plugins:
        app.load_plugins(plugin or None)
    serving = Worker(app, queues=queue or None, concurrency=concurrency, burst=burst, grace=grace)
    introduce(app.settings, serving.queues, serving.tasks)
    if sample is not None:
        click.echo(f"try: {sample}")
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        killed = runner.run(_serve(app, serving))
    if killed:
        raise Failed("the worker was killed by a second signal; its unfinished jobs were given back", code=FAILED)


async def _serve(app: Jetq, serving: Worker) -> bool:
    """Work until done or told to stop; whether a second signal cut it short."""
    signals = 0
    # Connected before the worker runs, so that one that waits for its server can be stopped: it holds nothing yet.
    connecting = asyncio.ensure_future(app.session.broker(patient=True))

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if connecting.cancel():
            _log.info("stopping: there is no connection yet")
        elif signals == 1:
            _log.info("stopping: running jobs may end; once more gives them back at once")
            serving.stop()
        else:
            serving.kill()

    _on_signals(on_signal)
    try:
        await asyncio.wait([connecting])
        if connecting.cancelled():
            return False
        connecting.result()
        await serving.run()
    finally:
        await app.session.aclose()
    return signals > 1


def _on_signals(handler: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, handler)
        except NotImplementedError:  # on Windows
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(handler))


def _loop_factory(wanted: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, if it is wanted or may be used and is there."""
    if wanted is False or (wanted is None and importlib.util.find_spec("uvloop") is None):
        return None
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError as error:
        raise Failed(f"uvloop cannot be used: {error}", hint='pip install "jetq-nats[uvloop]"') from None
    return factory
