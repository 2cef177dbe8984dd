"""`jetq worker`: chooses what to serve, listens for signals, and says how the worker ended.

`jetq.worker` does the work itself, in this process or in processes of the same command under
`jetq.worker.process.supervisor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from jetq.broker import Broker
from jetq.cli.app_option import choose_app
from jetq.cli.exit import FAILED, USAGE, Failed, is_verbose, verbose_option
from jetq.cli.logs import LevelSwitch, LogFormat, set_up
from jetq.cli.signals import in_a_thread
from jetq.cli.worker_process.banner import example, introduce, introduce_as_json
from jetq.cli.worker_process.exits import announced_exits, lifespan_in_words
from jetq.cli.worker_process.loaded_code import telling_code
from jetq.cli.worker_process.reloading import changes
from jetq.cli.worker_process.replacement import memory_bound, with_jitter
from jetq.client.app import Jetq
from jetq.client.plugins import Plugin, unready_queues
from jetq.runtime.forks import not_for_children
from jetq.worker.process.ending import AFTER_GRACE, AT_ONCE, HardEnd
from jetq.worker.process.health import REPORT_EVERY, Condition, Health
from jetq.worker.process.supervisor import (
    DEBUG_OFF,
    DEBUG_ON,
    HOPELESS,
    NOT_IN_ORDER,
    NOT_READY,
    READY,
    RECYCLED,
    SERVES,
    Supervisor,
)
from jetq.worker.worker import Worker

__all__ = ["worker"]

T = TypeVar("T")

_log = logging.getLogger("jetq.worker")

_LEFT_OVER_WITHIN = 5.0
"""Seconds that everything else in the process gets after the worker has ended: tasks and threads that still run, and
functions that are called at exit."""

_LOST_WITHIN = 1.0
"""Seconds instead of `_LEFT_OVER_WITHIN` when code of jobs that were given up still runs. Those jobs run again soon,
and the process must have ended by then."""

_OWN_CODE = str(Path(__file__).parents[2])
_LEVELS = [number for number in (DEBUG_ON, DEBUG_OFF) if number is not None]
_FOR_THE_SUPERVISOR = ("processes", "reload", "health")


def _host_port(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Return host and port of [HOST:]PORT."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise click.BadParameter(f"{value} is no [HOST:]PORT, like 8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


@click.command()
@click.argument("apps", metavar="[APP]...", nargs=-1)
@click.option(
    "-q",
    "--queue",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="Serve this queue. By default all queues of the tasks. May be repeated.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many jobs run at the same time in each process.",
)
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    help="How many seconds running jobs have to finish at shutdown.",
)
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
)
@click.option("--plugins/--no-plugins", default=True, help="Serve the tasks of installed plugins.")
@click.option(
    "--plugin",
    multiple=True,
    metavar="NAME",
    help="Serve the tasks of this plugin only. By default those that the setting `plugins` names.",
)
@click.option("--uvloop/--no-uvloop", default=None, help="Use uvloop. By default if it is installed.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes run jobs, each with slots of its own.",
)
@click.option(
    "--max-jobs", type=click.IntRange(min=1), help="Replace a process after this many jobs, or up to 10 % more."
)
@click.option(
    "--max-memory",
    type=click.IntRange(min=1),
    help="Replace a process when it has more than this many MiB after a job.",
)
@click.option("--reload", is_flag=True, help="Restart when a Python file below this directory changes.")
@click.option(
    "--health",
    metavar="[HOST:]PORT",
    callback=_host_port,
    help="Answer GET /live, /ready and /health at this address. The default host is 127.0.0.1.",
)
@click.option("--show-example", is_flag=True, hidden=True)
@click.option("--tell-code", type=Path, hidden=True, allow_from_autoenv=False)
@click.option("--unannounced", is_flag=True, hidden=True, allow_from_autoenv=False)
@click.option("--lifeline", type=int, hidden=True, allow_from_autoenv=False)
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
    processes: int,
    max_jobs: int | None,
    max_memory: int | None,
    reload: bool,
    health: tuple[str, int] | None,
    show_example: bool,
    tell_code: Path | None,
    unannounced: bool,
    lifeline: int | None,
) -> None:
    """Run the jobs of the tasks that the modules APP define.

    APP is MODULE, MODULE:APP or file.py. The first SIGTERM or Ctrl-C lets running jobs end within the grace time, the
    second gives them back at once. SIGUSR1 sets the log level to debug, SIGUSR2 back again.
    """
    set_up(log_format, "debug" if is_verbose() else log_level)
    for number in _LEVELS:
        signal.signal(number, signal.SIG_IGN)  # until a handler is set; without one they end the process
    if lifeline is None and (processes > 1 or max_jobs or max_memory or reload):
        _supervise(processes, burst=burst, grace=grace, reload=reload, health=health)
        return
    app = choose_app(*apps)
    sample = example(app.tasks) if show_example and not unannounced else None
    own = set(app.tasks)
    loaded = app.load_plugins(plugin or None) if plugins else []
    aside = [each for each in loaded if own.isdisjoint(each.tasks)] if tell_code is not None else []
    unready = unready_queues(loaded, app.tasks)
    serving = Worker(
        app,
        queues=_served(app, _weights(queue), unready, named=bool(plugin)),
        concurrency=concurrency,
        burst=burst,
        grace=grace,
        max_jobs=with_jitter(max_jobs),
        enough=memory_bound(max_memory),
    )
    if not unannounced:
        if log_format == "json":
            introduce_as_json(app.settings, serving.queues, serving.tasks, unready)
        else:
            introduce(app.settings, serving.queues, serving.tasks, unready, aside=aside)
    if sample is not None:
        click.echo(f"try: {sample}")
    hard = HardEnd(FAILED, lambda: ())
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner, telling_code(tell_code):
        loop = runner.get_loop()
        with lifespan_in_words(), announced_exits(lambda: serving.running):
            ending = _through_exits(loop, _serve(app, serving, hard, lifeline, health))
        hard.code = FAILED if ending.killed else RECYCLED if serving.retired and not ending.stopped else 0
        hard.left = partial(_left_over, loop)
        hard.within(_LOST_WITHIN if serving.has_lost else _LEFT_OVER_WITHIN)
    if ending.killed:
        raise Failed("the worker was killed by a second signal; its unfinished jobs were given back", code=FAILED)
    if serving.retired and not ending.stopped:
        click.get_current_context().exit(RECYCLED)


def _served(
    app: Jetq, queues: list[str] | dict[str, int], unready: Mapping[str, Plugin], *, named: bool
) -> list[str] | dict[str, int] | None:
    """Return the queues to serve; None means the queues of all tasks.

    A queue whose plugin is not ready here is left out, because each of its jobs would fail. Raises Failed if the user
    named such a queue or, with `named`, its plugin.
    """
    for queue, plugin in unready.items():
        others = {task.queue for task in app.tasks.values()} - unready.keys()
        if queue in queues or (not queues and (named or not others)):
            raise Failed(f"plugin {plugin.name} is not ready to serve queue {queue}: {plugin.lacks}")
    if queues or not unready:
        return queues or None
    return sorted({task.queue for task in app.tasks.values()} - unready.keys())


def _weights(queues: Sequence[str]) -> list[str] | dict[str, int]:
    """Return queue names, as a dict with their weights if at least one has a weight. Raises UsageError."""
    if not any("=" in each for each in queues):
        return list(queues)
    weights = {}
    for each in queues:
        name, _, weight = each.partition("=")
        if weight and not (weight.isascii() and weight.isdigit()):
            raise click.UsageError(f"-q {each}: the weight of a queue is a whole number from 1")
        weights[name] = int(weight or 1)
    return weights


# --- one process


class _Ending:
    """Tells a worker to end: in order, any number of times, or now. alone: no supervisor passes signals on."""

    def __init__(self, serving: Worker, hard: HardEnd, connecting: asyncio.Future[Broker], *, alone: bool) -> None:
        self._alone = alone
        self.stopped = False
        self.killed = False
        self._serving = serving
        self._hard = hard
        self._connecting = connecting
        self._loop = asyncio.get_running_loop()
        self._level = LevelSwitch()
        self._heard = 0

    def hear(self, number: signal.Signals) -> None:
        """Take a signal, in a thread, because the loop may be blocked.

        Without a supervisor the first signal stops the worker, the second kills it, and the third ends the process at
        once. A supervisor sends SIGQUIT to kill the worker, and the other signals to stop it, any number of times.
        """
        if number in _LEVELS:
            self._level.set(debug=number == DEBUG_ON)
            return
        self._heard += 1
        if self._alone and self._heard > 2:
            _ended_at_once()
        kills = self._heard > 1 if self._alone else number not in (signal.SIGINT, signal.SIGTERM)
        self._hard.within(AT_ONCE if kills else self._serving.grace + AFTER_GRACE)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.kill if kills else self.stop)

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        if self._connecting.cancel():
            _log.info("stopping: there is no connection yet")
            return
        _log.info("stopping: running jobs may end%s", "; once more gives them back at once" if self._alone else "")
        self._serving.stop()

    def kill(self) -> None:
        self.stopped = True
        if not self._connecting.cancel():
            self.killed = True
            self._serving.kill()


def _through_exits(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its value. Code that a job has left behind may raise SystemExit, which stops the loop: go
    on then."""
    task = loop.create_task(work)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            _log.error("%s came out of something that a job left running; the worker goes on", type(error).__name__)


def _left_over(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """Yield the names of what keeps the process of a worker that has ended its work."""
    for task in asyncio.all_tasks(loop):
        code = getattr(task.get_coro(), "cr_code", None)
        if code is None or not code.co_filename.startswith(_OWN_CODE):  # jetq's own were reported already
            what = task.get_name() if code is None else code.co_qualname
            yield f"a task that was left running does not end, and is cut off: {what}"
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            yield f"a thread does not end, and is cut off: {thread.name}"


async def _serve(
    app: Jetq, serving: Worker, hard: HardEnd, lifeline: int | None, health: tuple[str, int] | None
) -> _Ending:
    """Work until the worker is done or told to stop, and return the `_Ending`, which knows how the worker was told."""
    if health is None or lifeline is not None:  # the supervisor answers for its processes
        return await _work(app, serving, hard, lifeline)
    own = Health()
    with _answering(*health, own), _each_second(lambda: own.report(serving.not_ready_reason)):
        return await _work(app, serving, hard, lifeline)


@contextlib.contextmanager
def _each_second(say: Callable[[], None]) -> Iterator[None]:
    """Call `say` every second in the running loop, as long as the context is open."""

    async def go_on() -> None:
        while True:
            say()
            await asyncio.sleep(REPORT_EVERY)

    saying = asyncio.create_task(go_on(), name="jetq-health")
    try:
        yield
    finally:
        saying.cancel()


async def _work(app: Jetq, serving: Worker, hard: HardEnd, lifeline: int | None) -> _Ending:
    # Connect before the worker runs: a worker that waits for its server holds no jobs yet, and can be stopped.
    connecting = asyncio.ensure_future(app.session.broker(patient=True))
    serving.ends_process(hard)
    ending = _Ending(serving, hard, connecting, alone=lifeline is None)
    if lifeline is None:
        in_a_thread(ending.hear, signal.SIGINT, signal.SIGTERM, *_LEVELS)
    else:
        _obey_supervisor(ending, lifeline)
    try:
        await asyncio.wait([connecting])
        if connecting.cancelled():
            return ending
        connecting.result()
        if lifeline is None:
            await serving.run()
        else:
            _say(lifeline, SERVES)
            with _each_second(lambda: _say(lifeline, NOT_READY if serving.not_ready_reason else READY)):
                await serving.run()
    finally:
        await app.session.aclose()
    return ending


def _obey_supervisor(ending: _Ending, lifeline: int) -> None:
    """End in order at SIGTERM, however often it comes, and when the supervisor has gone. End now at the supervisor's
    SIGQUIT."""
    loop = asyncio.get_running_loop()

    def on_end_of_file() -> None:
        loop.remove_reader(lifeline)
        if not ending.stopped:
            _log.warning("the supervisor is gone")
        ending.stop()

    os.set_inheritable(lifeline, False)
    not_for_children(ending, lambda _: lifeline)
    os.set_blocking(lifeline, False)  # a stopped supervisor does not read
    loop.add_reader(lifeline, on_end_of_file)
    in_a_thread(ending.hear, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, *_LEVELS)


def _ended_at_once() -> NoReturn:
    os.write(2, b"error: ended at once by a third signal; what ran comes back when its lease ends\n")
    os._exit(FAILED)


def _say(lifeline: int, word: bytes) -> None:
    with contextlib.suppress(OSError):  # the supervisor has gone, which `on_end_of_file` sees, or does not read
        os.write(lifeline, word)


@contextlib.contextmanager
def _answering(host: str, port: int, condition: Condition) -> Iterator[None]:
    """Answer HTTP requests for `condition`, as long as the context is open. Raises Failed if the address cannot be
    used."""
    from jetq.cli.worker_process.health import answering  # 20 ms of imports that most workers do not need

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(answering(host, port, condition))
        except OSError as error:
            raise Failed(
                f"cannot answer on {host}:{port}: {error.strerror}",
                hint="is another worker there? give each its own --health port",
                code=USAGE,
            ) from None
        _log.info("health is told at http://%s:%d/ready", f"[{host}]" if ":" in host else host, port)
        yield


# --- several


def _supervise(processes: int, *, burst: bool, grace: float, reload: bool, health: tuple[str, int] | None) -> None:
    if sys.platform == "win32":
        raise Failed(
            "--processes, --max-jobs, --max-memory and --reload need signals and pipes that Windows lacks",
            hint="start several workers: they share the queues",
        )
    words = _command_line(click.get_current_context())

    def command(lifeline: int, announces: bool) -> list[str]:
        own = ["--lifeline", str(lifeline), *([] if announces else ["--unannounced"])]
        return [sys.executable, "-m", "jetq", "worker", *own, *words]

    level = LevelSwitch()
    supervisor = Supervisor(
        command, processes=processes, burst=burst, grace=grace, debug=lambda debug: level.set(debug=debug)
    )
    with contextlib.nullcontext() if health is None else _answering(*health, supervisor):
        outcome = supervisor.run(changes(Path.cwd()) if reload else None)
    if outcome == NOT_IN_ORDER:
        raise Failed("not every worker process ended in order; the unfinished jobs will run again", code=FAILED)
    if outcome == HOPELESS:
        click.get_current_context().exit(USAGE)


def _command_line(context: click.Context) -> list[str]:
    """Return the words of the command line for a worker process, which reads the environment's options itself."""
    words = ["--verbose"] if is_verbose(context) else []
    arguments: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _FOR_THE_SUPERVISOR or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params.get(name)
        if isinstance(parameter, click.Argument):
            arguments += value or ()
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words += parameter.opts[-1:] if value else parameter.secondary_opts[-1:]
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[-1], str(each)]
    return [*words, "--", *arguments]


def _loop_factory(wanted: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory, if uvloop is wanted, or is installed and not refused; else None."""
    if wanted is False or (wanted is None and importlib.util.find_spec("uvloop") is None):
        return None
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError as error:
        raise Failed(f"uvloop cannot be used: {error}", hint='pip install "jetq-nats[uvloop]"') from None
    return factory
