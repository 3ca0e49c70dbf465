"""Alleles as the annotator hands them to a store."""

from __future__ import annotations

from typing import NamedTuple


class KeptAllele(NamedTuple):
    """An allele as stores hold it; ``length`` is None for a literal state.

    ``id`` and ``location_id`` are ``ga4gh:VA.…`` and ``ga4gh:SL.…``, ``accession`` is ``SQ.…``; positions are
    inter-residue. ``sequence`` is None for a ReferenceLengthExpression longer than 50 bases.
    """

    id: str
    location_id: str
    accession: str
    start: int
    end: int
    sequence: str | None
    length: int | None
    repeat_subunit_length: int | None
