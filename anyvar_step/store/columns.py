"""The columns that we write, and whether a table that is there already has them (CONTRACTS.md §5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
