"""Settings as they are in force: from options, the environment, ``.env`` files and defaults.

Only composition roots (the commands, the worker, the web API) call ``load``; everything below is handed
what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dotenv import dotenv_values, find_dotenv
from pydantic import ValidationError

from anyvar_step.errors import ConfigurationError
from anyvar_step.settings import Settings
from anyvar_step.values import masked

#: Options that are not called as their settings are.
_OPTIONS = {"references": "--reference"}


def load(environ: Mapping[str, str] | None = None, **options: Any) -> Settings:
    """Settings from options, then the environment, then ``.env``, then defaults.

    ``.env`` is looked for from the current directory upward and, as with AnyVar, never overrides what the
    environment holds. ``NAME_FILE`` names a file that holds a secret's value. Empty values count as unset.

    Raises ConfigurationError with one line for each variable that is wrong.
    """
    environ = os.environ if environ is None else environ
    path = find_dotenv(usecwd=True)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (path, _dotenv(path) if path else {}),
        ("environment", environ),
    ]
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        variable = str(field.alias)
        for source, layer in layers:
            value = layer.get(variable) or _from_file(layer, variable, field.json_schema_extra)
            if value:
                values[name], origin[name] = value, source
        if options.get(name) is not None:
            values[name], origin[name] = options[name], "option"
    if "backend_url" not in values and "broker_url" in values:
        values["backend_url"], origin["backend_url"] = values["broker_url"], "CELERY_BROKER_URL"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origin), "See `anyvar-step config --help`") from None
    settings._origin.update(origin)
    settings._mistyped.update(_mistyped(layer for _, layer in layers))
    return settings


def _mistyped(layers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Variables that are named like ours and are none, each with what to do about it."""
    known = set[str]()
    for field in Settings.model_fields.values():
        extra: Any = field.json_schema_extra
        known |= {str(field.alias), *([f"{field.alias}_FILE"] if extra["secret"] else [])}
    given = {name for layer in layers for name in layer if name.startswith("ANYVAR_STEP_")}
    remedies = {}
    for name in sorted(given - known):
        near = " or ".join(get_close_matches(name, known))
        remedies[name] = f"Did you mean {near}?" if near else "`anyvar-step config` lists the variables"
    return remedies


def _dotenv(path: str) -> Mapping[str, Any]:
    """The variables in a ``.env`` file."""
    try:
        return dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", "Write it as UTF-8 text") from None


def _from_file(layer: Mapping[str, Any], variable: str, extra: Any) -> str | None:
    """The content of the file that ``<variable>_FILE`` names; for secrets only."""
    name = layer.get(f"{variable}_FILE")
    if not name or not extra["secret"]:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{variable}_FILE names {name}: {error.strerror}") from None
    except ValueError:  # not to be shown: it may be a secret in another encoding
        raise ConfigurationError(f"{variable}_FILE names {name!r}, which holds no UTF-8 text") from None


def shown(settings: Settings, name: str) -> str:
    """The field's value as its variable would give it, for people and logs: without its password."""
    value = getattr(settings, name)
    if isinstance(value, dict):
        value = ",".join(f"{key}={path}" for key, path in value.items())
    elif isinstance(value, tuple):
        value = ",".join(value)
    elif name == "work_dir_mode" and value is not None:
        value = f"{value:04o}"
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return masked(text) if _is_secret(name) else text


def chosen(settings: Settings) -> dict[str, str]:
    """The variables that were set, and their values; none that can hold a secret."""
    return {
        str(field.alias): shown(settings, name)
        for name, field in Settings.model_fields.items()
        if settings.origin(name) != "default" and not _is_secret(name)
    }


def _is_secret(name: str) -> bool:
    extra: Any = Settings.model_fields[name].json_schema_extra
    return bool(extra["secret"])


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    """One clause for each wrong setting, by its option or variable, without the value of a secret."""
    lines = []
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(message)
            continue
        name = str(item["loc"][0])
        if origin.get(name) == "CELERY_BROKER_URL":
            continue  # taken from there, where it is wrong already
        field = Settings.model_fields.get(name)
        extra = field.json_schema_extra if field else None
        shown = "***" if isinstance(extra, dict) and extra["secret"] else repr(item["input"])
        called = field.alias if field else name
        if origin.get(name) == "option":
            called = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        lines.append(f"{called}={shown}: {message}")
    return "; ".join(lines)
