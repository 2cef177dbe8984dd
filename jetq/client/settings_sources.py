"""The sources of settings: keywords, the environment, NATS contexts and TOML files. `jetq.settings` parses the
settings."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jetq.errors import SettingsError
from jetq.settings import (
    Layer,
    Settings,
    from_context,
    from_jetq_environment,
    from_keywords,
    from_nats_environment,
    from_table,
    resolve,
)

__all__ = ["load_settings"]

_PATHS = frozenset({"creds", "nkey", "tls_ca", "tls_cert", "tls_key"})
_CONTEXT_PATHS = frozenset({"creds", "nkey", "cert", "key", "ca"})
_CONTEXT_SECRETS = frozenset({"user", "password", "token"})


def load_settings(
    keywords: Mapping[str, object],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Return the settings in force. Strongest first: `keywords`, `JETQ_*`, `NATS_*`, the context that `NATS_CONTEXT`
    names, `jetq.toml`, `[tool.jetq]` of `pyproject.toml`, and the defaults.

    `environment` and `directory` default to the process's own. Raises SettingsError for a setting that is unknown or
    impossible, and for a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    directory = Path.cwd() if directory is None else directory
    settings = resolve(
        [
            from_keywords(keywords),
            from_jetq_environment(environment),
            from_nats_environment(environment),
            _context(environment),
            from_table(_toml(directory / "jetq.toml"), "jetq.toml"),
            from_table(_tool_table(directory / "pyproject.toml"), "[tool.jetq] of pyproject.toml"),
        ]
    )
    return _with_home_expanded(settings)


def _with_home_expanded(settings: Settings) -> Settings:
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    for name in _PATHS:
        if values[name] is not None:
            values[name] = str(Path(values[name]).expanduser())
    return Settings(**values)


# --- TOML


def _tool_table(path: Path) -> Mapping[str, object]:
    table = _toml(path).get("tool", {}).get("jetq", {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path.name}: tool.jetq is not a table", hint="write [tool.jetq] above the settings")
    return table


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from None


# --- NATS contexts


def _context(environment: Mapping[str, str]) -> Layer:
    # Only a context that is named: the one that the `nats` command has selected may be of another system altogether.
    name = environment.get("NATS_CONTEXT")
    if not name:
        return {}
    path = _context_directory(environment) / f"{name}.json"
    if Path(name).name != name or name == "..":
        raise SettingsError(f"NATS_CONTEXT: {name!r} is not a context's name")
    try:
        context = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"NATS_CONTEXT: there is no context {name!r}: {path} does not exist", hint="see `nats context ls`"
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"NATS_CONTEXT: cannot read {path}: {error}") from None
    if not isinstance(context, dict):
        raise SettingsError(f"NATS_CONTEXT: {path} is not a NATS context")
    return from_context({key: _dereferenced(key, value, name, environment) for key, value in context.items()}, name)


def _context_directory(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "nats" / "context"


def _dereferenced(key: str, value: object, name: str, environment: Mapping[str, str]) -> object:
    """Return `value`, or what it refers to: newer contexts may hold `env://NAME` or `file://PATH` in place of a
    secret."""
    if not isinstance(value, str) or key not in (*_CONTEXT_PATHS, *_CONTEXT_SECRETS):
        return value
    scheme, separator, rest = value.partition("://")
    if not separator and not value.startswith("data:"):
        return os.path.expandvars(value) if key in _CONTEXT_PATHS else value
    if key in _CONTEXT_PATHS and scheme == "file":
        return os.path.expandvars(rest)
    if key in _CONTEXT_SECRETS:
        if scheme == "env" and rest in environment:
            return environment[rest]
        if scheme == "file":
            try:
                return Path(rest).expanduser().read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{key} of the NATS context {name!r}: cannot read {rest}: {error}") from None
    if scheme in ("env", "op", "nsc", "data") or value.startswith("data:"):
        raise SettingsError(
            f"{key} of the NATS context {name!r} refers to {value.partition(':')[0]}:, which jetq cannot follow",
            hint=f"set NATS_{key.upper()} in the environment instead",
        )
    return value
