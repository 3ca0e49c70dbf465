"""The rows of AnyVar's tables for kept alleles (CONTRACTS.md §5), in the order in which they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from anyvar_step.models import KeptAllele


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
