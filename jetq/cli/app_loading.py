"""Find the app that a word of the command line means: `MODULE`, `MODULE:APP` or `file.py`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import click

from jetq.cli.exit import Failed, is_verbose
from jetq.client.app import Jetq, default_app
from jetq.errors import JetqError

__all__ = ["add_working_directory", "import_module", "import_module_of_task", "load_app", "place"]

_ROOTS = ("src", "lib", "python")
_OF_PROJECTS = ("pyproject.toml", "setup.py", "manage.py")
"""A directory with one of the names in `_ROOTS`, or with one of these files in it, is a directory that modules are
imported from."""


def load_app(app_paths: Sequence[str]) -> Jetq:
    """Import every module of `app_paths`, and return the app among them. If they define no app, return the default app,
    which has the tasks that they define.

    Raises Failed for a module that cannot be imported, for an app that does not exist, and for more than one app.
    """
    add_working_directory()
    apps: dict[int, tuple[str, Jetq]] = {}
    for app_path in app_paths:
        for name, app in _load(app_path):
            apps.setdefault(id(app), (name, app))
    if len(apps) > 1:
        names = ", ".join(name for name, _ in apps.values())
        raise Failed(f"there is more than one app: {names}", hint="a command works for one; name it as MODULE:APP")
    return next(iter(apps.values()))[1] if apps else default_app()


def add_working_directory() -> None:
    """Let `import` find the modules of the working directory, as `python -m` does."""
    _add_to_path(Path.cwd())


def import_module(name: str) -> ModuleType:
    """Import module `name` and return it. Raises Failed, with the place in the user's code, if the module is missing or
    fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if _is_missing(name, error):
            raise _no_module(name) from None
        raise _import_failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(name, error) from error


def import_module_of_task(task: str) -> str | None:
    """Import the longest part of a task's name that is a module, and return the module's name; None if no part is a
    module.

    Raises Failed if the import fails.
    """
    parts = task.split(".")[:-1]
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        try:
            found = importlib.util.find_spec(name) is not None  # imports the packages above it
        except ModuleNotFoundError as error:
            if not _is_missing(name, error):
                raise _import_failed(name, error) from error
            found = False
        except (Exception, SystemExit) as error:
            raise _import_failed(name, error) from error
        if found:
            import_module(name)
            return name
    return None


def _is_missing(name: str, error: ModuleNotFoundError) -> bool:
    """Return whether `error` says that `name` or a package above it is missing, not something that its code imports."""
    return error.name is not None and (name == error.name or name.startswith(f"{error.name}."))


def _load(app_path: str) -> list[tuple[str, Jetq]]:
    """Return the apps that `app_path` names, each with its name: the one app of `MODULE:APP`, else all apps of the
    module."""
    target, _, attribute = app_path.partition(":") if not Path(app_path).is_file() else (app_path, "", "")
    if not target.strip():
        raise Failed(
            f"{app_path!r} names no module", hint="MODULE, MODULE:APP or file.py; is a shell's variable empty?"
        )
    module = _import_file(Path(target)) if target.endswith(".py") else import_module(target)
    found = {name: value for name, value in vars(module).items() if isinstance(value, Jetq)}
    if not attribute:
        return [(f"{target}:{name}", app) for name, app in found.items()]
    if attribute in found:
        return [(app_path, found[attribute])]
    if hasattr(module, attribute):
        kind = type(getattr(module, attribute)).__name__
        raise Failed(f"'{attribute}' of module '{module.__name__}' is a {kind}, not a Jetq app")
    if not found:
        raise Failed(
            f"module '{module.__name__}' imported but has no '{attribute}'; it defines no app",
            hint=f"tasks made with @task need none: {target}",
        )
    raise Failed(f"module '{module.__name__}' imported but has no '{attribute}'; it defines: {', '.join(found)}")


def _import_file(path: Path) -> ModuleType:
    """Import the file `path` from the directory above its outermost package, and return the module."""
    path = path.resolve()
    if not path.is_file():
        raise Failed(f"there is no file {path}")
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    if parts[-1] == "__init__":
        parts.pop()
    name = ".".join(parts)
    if not name.replace(".", "").isidentifier():
        raise Failed(f"{path.name} cannot be imported: {name!r} is no module name", hint="rename the file")
    if (other := _other_name(root, name)) is not None:
        _warn_of_other_name(path, name, other)
    _add_to_path(root)
    module = import_module(name)
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise Failed(f"{path.name} has the name of another module, {module.__file__ or name}", hint="rename the file")
    return module


def _other_name(root: Path, name: str) -> str | None:
    """Return the other name under which code in the working directory can import the module `name` below `root`.

    None if there is no such name, or if modules are imported from `root` anyway.
    """
    here = Path.cwd().resolve()
    if str(root) in sys.path or root == here or not root.is_relative_to(here):
        return None
    above = root.relative_to(here).parts
    own = above[-1] in _ROOTS or any((root / file).exists() for file in _OF_PROJECTS)
    return None if own or not all(part.isidentifier() for part in above) else ".".join((*above, name))


def _warn_of_other_name(path: Path, name: str, other: str) -> None:
    context = click.get_current_context(silent=True)
    if context is None or not context.params.get("unannounced"):  # one process warns for all processes
        shown = path.relative_to(Path.cwd().resolve())
        click.echo(
            f"warning: {shown} is imported as '{name}', so its tasks are called {name}.*; "
            f"code here that imports it as '{other}' enqueues others",
            err=True,
        )
        click.echo(f"hint: for `from {other} import ...` write {other} in place of {shown}", err=True)


def _add_to_path(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _no_module(name: str) -> Failed:
    here = [path.stem for path in Path.cwd().glob("*.py")]
    close = difflib.get_close_matches(name.partition(".")[0], here, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"run jetq where '{name.partition('.')[0]}' can be imported"
    return Failed(f"there is no module '{name}'", hint=hint)


def _import_failed(name: str, error: BaseException) -> Failed:
    if is_verbose():
        traceback.print_exception(error)
    what = error.message if isinstance(error, JetqError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, JetqError) else None
    return Failed(f"module '{name}' fails to import: {what}\n{place(error)}", hint=hint or "-v shows the traceback")


def place(error: BaseException) -> str:
    """Return the file and the last line of the user's own code that led to `error`, as a traceback writes them."""
    if isinstance(error, SyntaxError) and error.filename:
        return f'  File "{error.filename}", line {error.lineno}'
    libraries = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))
    jetq = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", jetq, *libraries))
    ]
    if not frames:
        return "  in a library"
    return f'  File "{frames[-1].filename}", line {frames[-1].lineno}\n    {frames[-1].line}'
