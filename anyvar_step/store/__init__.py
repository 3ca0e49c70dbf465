"""Stores: AnyVar's tables of alleles, locations and sequence references, in Postgres or DuckDB (layer 1).

``open_store`` makes one from the settings; ``registrar`` writes into it beside the annotation. The SQL
is in ``sql/<dialect>.sql``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from anyvar_step.errors import ConfigurationError
from anyvar_step.models import KeptAllele
from anyvar_step.settings import Settings

#: The names of the tables by AnyVar's own names, which are the keys of ``COLUMNS``.
Tables = Mapping[str, str]


class Store(Protocol):
    """Where alleles are registered. It connects when it is first used, and again after a failure.

    One thread at a time. Raises Unavailable for failures that may pass (server down, connection lost, rows
    locked), AccessRefused, ConfigurationError and FileTrouble for others; no message holds a password.
    """

    #: Number of stores of this kind that are worth having in one process.
    writers: int

    def prepare(self) -> None:
        """Create missing tables as AnyVar creates them; refuse a schema of another version."""

    def write(self, alleles: Sequence[KeptAllele]) -> int:
        """Register alleles with their locations and sequence references in one transaction.

        Returns how many alleles were new. Existing rows stay as they are, so that a batch may be written
        twice.
        """

    def close(self) -> None:
        """Close the connection."""


def open_store(settings: Settings) -> Store:
    """The store of ANYVAR_STORAGE_URI, which must be set: ``postgresql://…`` or ``duckdb:///path``.

    Raises ConfigurationError if the URI names no database, and if the package it needs is not installed.
    """
    scheme = urlsplit(settings.storage_uri).scheme
    tables = {
        "sequence_references": settings.sequence_references_table,
        "locations": settings.locations_table,
        "alleles": settings.alleles_table,
    }
    try:
        if scheme == "duckdb":
            from anyvar_step.store.duckdb import DuckDbStore

            return DuckDbStore(settings.storage_uri, tables)
        from anyvar_step.store.postgres import PostgresStore

        return PostgresStore(settings.storage_uri, tables, settings.store_patience)
    except ModuleNotFoundError as error:
        extra = "duckdb" if scheme == "duckdb" else "postgres"
        raise ConfigurationError(
            f"ANYVAR_STORAGE_URI names a {scheme} store, and the package {error.name} is not installed",
            f"Run: pip install 'anyvar-step[{extra}]'",
        ) from None


_POSITIONS = ("start_pos", "end_pos", "start_outer", "start_inner", "end_outer", "end_inner")
#: By table, in the order in which tables are made: each column, and its kind of type.
COLUMNS = {
    "sequence_references": {"id": "text", "molecule_type": "molecule"},
    "locations": {"id": "text", "sequence_reference_id": "text", **dict.fromkeys(_POSITIONS, "integer")},
    "alleles": {"id": "text", "location_id": "text", "state": "json"},
}


def check_columns(
    table: str, name: str, found: Iterable[tuple[str, str, bool]], types: Mapping[str, str], remedy: str
) -> None:
    """Raise ConfigurationError unless a table has the columns that AnyVar gives it.

    ``name`` stands for it in the message. ``found`` are name and type of its columns, and whether a row must
    give a value. ``types`` are the database's names for the kinds of types.
    """
    rows = list(found)
    columns = {column: type_ for column, type_, _ in rows}
    expected = {column: types[kind] for column, kind in COLUMNS[table].items()}
    wrong = [f"no column {c} of type {t}" for c, t in expected.items() if columns.get(c) != t]
    wrong += [f"a column {c} that must not be empty" for c, _, must in rows if must and c not in expected]
    if wrong:
        raise ConfigurationError(
            f"the table {name} was made by another version of AnyVar: it has {' and '.join(wrong)}",
            f"{remedy}, or set ANYVAR_{table.upper()}_TABLE_NAME",
        )


class Rows(NamedTuple):
    """The rows of a batch for each table, without repeats and sorted by key.

    The order is the same in every worker, so that two that write the same rows at once do not deadlock.
    """

    #: accession
    sequence_references: list[str]
    #: id, accession, start, end
    locations: list[tuple[str, str, int, int]]
    #: id, location's id, state as JSON
    alleles: list[tuple[str, str, str]]


def rows_of(alleles: Iterable[KeptAllele]) -> Rows:
    """The rows of these alleles, their locations and their sequence references."""
    locations: dict[str, tuple[str, str, int, int]] = {}
    found: dict[str, tuple[str, str, str]] = {}
    for id_, location, accession, start, end, sequence, length, subunit in alleles:
        locations[location] = (location, accession, start, end)
        found[id_] = (id_, location, _state_json(sequence, length, subunit))
    sequences = sorted({accession for _, accession, _, _ in locations.values()})
    return Rows(sequences, sorted(locations.values()), sorted(found.values()))


@lru_cache(maxsize=4096)
def _state_json(sequence: str | None, length: int | None, repeat_subunit_length: int | None) -> str:
    """An allele's state as AnyVar stores it; a sequence that is not shown has no key."""
    if length is None or repeat_subunit_length is None:
        return json.dumps({"type": "LiteralSequenceExpression", "sequence": sequence or ""})
    shown = {} if sequence is None else {"sequence": sequence}
    state = {"type": "ReferenceLengthExpression", "length": length, **shown}
    return json.dumps({**state, "repeatSubunitLength": repeat_subunit_length})


def statements(dialect: str, tables: Tables) -> dict[str, str]:
    """The statements of ``sql/<dialect>.sql`` by name, with the tables' quoted names filled in."""
    text = (files("anyvar_step.store") / "sql" / f"{dialect}.sql").read_text(encoding="utf-8")
    for table, name in tables.items():
        text = text.replace(f"{{{table}}}", quoted(name))
    _, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
