"""The SQL of a store: the named statements of ``sql/<dialect>.sql`` with the tables' names filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from anyvar_step.models import KeptAllele
from anyvar_step.store import Tables

_PLACES = ("start_pos", "end_pos", "start_outer", "start_inner", "end_outer", "end_inner")
#: By table, in the order in which tables are made: each column, and the kind of its type.
COLUMNS = {
    "sequence_references": {"id": "text", "molecule_type": "molecule"},
    "locations": {"id": "text", "sequence_reference_id": "text", **dict.fromkeys(_PLACES, "integer")},
    "alleles": {"id": "text", "location_id": "text", "state": "json"},
}


def misfits(table: str, found: Iterable[tuple[str, str, bool]], types: Mapping[str, str]) -> str:
    """What is wrong with a table, in words; empty where it fits.

    ``found`` are name and type of its columns, and whether one must not be left out; ``types`` are the
    database's names of the kinds of types.
    """
    rows = list(found)
    columns = {column: type_ for column, type_, _ in rows}
    wanted = {column: types[kind] for column, kind in COLUMNS[table].items()}
    wrong = [f"no column {c} of type {t}" for c, t in wanted.items() if columns.get(c) != t]
    wrong += [f"a column {c} that must not be empty" for c, _, must in rows if must and c not in wanted]
    return " and ".join(wrong)


class Rows(NamedTuple):
    """What a batch adds to each table, without repeats and sorted by key.

    The order is the same in every worker, so that of two that write the same rows at once one waits for the
    other, and never each for the other.
    """

    #: accession
    sequence_references: list[str]
    #: id, accession, start, end
    locations: list[tuple[str, str, int, int]]
    #: id, location's id, state as JSON
    alleles: list[tuple[str, str, str]]


def rows_of(alleles: Iterable[KeptAllele]) -> Rows:
    """The rows of these alleles, their locations and their sequence references."""
    places: dict[str, tuple[str, str, int, int]] = {}
    found: dict[str, tuple[str, str, str]] = {}
    for id_, location, accession, start, end, sequence, length, subunit in alleles:
        places[location] = (location, accession, start, end)
        found[id_] = (id_, location, state_json(sequence, length, subunit))
    sequences = sorted({place[1] for place in places.values()})
    return Rows(sequences, sorted(places.values()), sorted(found.values()))


@lru_cache(maxsize=4096)
def state_json(sequence: str | None, length: int | None, repeat_subunit_length: int | None) -> str:
    """An allele's state as AnyVar stores it; a sequence that is not shown has no key."""
    state: dict[str, str | int] = {}
    if length is None or repeat_subunit_length is None:
        state = {"type": "LiteralSequenceExpression", "sequence": sequence or ""}
    else:
        state = {"type": "ReferenceLengthExpression", "length": length}
        if sequence is not None:
            state["sequence"] = sequence
        state["repeatSubunitLength"] = repeat_subunit_length
    return json.dumps(state)


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
