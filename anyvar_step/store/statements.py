"""The SQL of a store: the named statements of ``sql/<dialect>.sql`` with the tables' names filled in."""

from __future__ import annotations

import re
from dataclasses import asdict
from importlib.resources import files

from anyvar_step.store import Tables

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def statements(dialect: str, tables: Tables) -> dict[str, str]:
    """The statements by name; ``{alleles}`` and the like are the tables' quoted names."""
    text = (files("anyvar_step.store") / "sql" / f"{dialect}.sql").read_text(encoding="utf-8")
    for table, name in asdict(tables).items():
        text = text.replace(f"{{{table}}}", quoted(name))
    _, *parts = _NAME.split(text)
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
