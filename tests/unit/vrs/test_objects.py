"""Annotated records as VRS objects and as rows of a table."""

from __future__ import annotations

import json

import pytest
from engines import Annotator
from memory_reference import MemoryReference

from anyvar_step.vrs.objects import UnknownSequence, objects, rows

pytestmark = pytest.mark.usefixtures("engine")

#: A run of A at bases 5 to 8, and a repeat of 140 bases.
REFERENCE = MemoryReference(chr1=b"ACGTAAAACCTG" + b"GATTACA" * 20)


def annotated(*records: tuple[int, str, str], for_ref: bool = True) -> tuple[list[bytes], dict[str, str]]:
    annotator = Annotator(REFERENCE, for_ref=for_ref, attributes=True)  # type: ignore[arg-type]
    lines = [f"chr1\t{pos}\t.\t{ref}\t{alt}\t.\t.\tDP=1".encode() for pos, ref, alt in records]
    return annotator.annotate(lines), annotator.sequences


def test_a_snv_becomes_two_alleles_at_one_location() -> None:
    lines, accessions = annotated((1, "A", "C"))
    ref, alt = map(json.loads, objects(lines, accessions))
    assert (
        ref["location"]
        == alt["location"]
        == {
            "id": "ga4gh:SL." + ref["location"]["digest"],
            "type": "SequenceLocation",
            "digest": ref["location"]["digest"],
            "sequenceReference": {"type": "SequenceReference", "refgetAccession": accessions["chr1"]},
            "start": 0,
            "end": 1,
        }
    )
    assert ref["state"] == {
        "type": "ReferenceLengthExpression",
        "length": 1,
        "sequence": "A",
        "repeatSubunitLength": 1,
    }
    assert alt["state"] == {"type": "LiteralSequenceExpression", "sequence": "C"}
    assert [ref["id"], alt["id"]] == [f"ga4gh:VA.{allele['digest']}" for allele in (ref, alt)]


@pytest.mark.parametrize(
    ("record", "state"),
    [
        ((5, "AA", "A"), {"length": 3, "sequence": "AAA", "repeatSubunitLength": 1}),
        ((3, "GT", "G"), {"length": 0, "sequence": "", "repeatSubunitLength": 1}),
        ((13, "G", "G" + "ATTACAG" * 9), {"length": 140 + 63, "repeatSubunitLength": 63}),
    ],
    ids=["shown", "empty", "too-long-to-show"],
)
def test_a_reference_length_shows_its_sequence_up_to_50_bases(
    record: tuple[int, str, str], state: dict[str, object]
) -> None:
    lines, accessions = annotated(record, for_ref=False)
    [allele] = map(json.loads, objects(lines, accessions))
    assert allele["state"] == {"type": "ReferenceLengthExpression", **state}


def test_alleles_without_identifier_are_no_objects_and_rows_with_a_dot() -> None:
    lines, accessions = annotated((1, "A", "C,<DEL>"), (1, "G", "C"), (1, "A", "."), (2, "C", "*"))
    made = [json.loads(line)["id"].encode() for line in objects(lines, accessions)]
    table = [tuple(row.split(b"\t")) for row in rows(lines, for_ref=True)]
    assert [row[-1] for row in table if row[-1] != b"."] == made
    dotted = [(b"1", b"A", b"<DEL>"), (b"1", b"G", b"G"), (b"1", b"G", b"C"), (b"2", b"C", b"*")]
    assert [row[1:4] for row in table if row[-1] == b"."] == dotted
    assert len(made) == 4
    assert len({row[-1] for row in table if row[1:4] == (b"1", b"A", b"A")}) == 1


def test_without_ref_the_table_has_the_alt_alleles_alone() -> None:
    lines, _ = annotated((1, "A", "C,G"), (1, "A", "."), for_ref=False)
    assert [row.split(b"\t")[3] for row in rows(lines, for_ref=False)] == [b"C", b"G"]


def test_what_does_not_belong_together_is_refused() -> None:
    lines, _ = annotated((1, "A", "C"))
    with pytest.raises(UnknownSequence, match="chr1"):
        objects(lines, {})
    with pytest.raises(ValueError, match="2 VRS identifiers for 1 alleles"):
        rows(lines, for_ref=False)
    with pytest.raises(ValueError, match="is not the identifier of its location and state"):
        objects([lines[0].replace(b"VRS_Ends=1,1", b"VRS_Ends=2,2")], {"chr1": "SQ." + "A" * 32})
