"""An annotated VCF counted by its own lines: what the worker that wrote it would have reported."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from made_up import cases
from memory_reference import MemoryReference

from anyvar_step.models import Counts
from anyvar_step.pipeline.assembly import notes_on
from anyvar_step.vrs import Annotator
from anyvar_step.vrs.mismatch import QUOTED
from anyvar_step.vrs.tally import tally


def counted(*lines: bytes) -> Counts:
    counts = Counts()
    tally(lines, counts)
    return counts


def record(info: str, ref: str = "A", alt: str = "C") -> bytes:
    return f"chrEBV\t7\t.\t{ref}\t{alt}\t.\t.\t{info}\tGT\t0/1".encode()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases)
def test_the_output_says_what_the_annotator_counted(case: tuple[str, list[bytes]]) -> None:
    genome, lines = case
    annotator = Annotator(MemoryReference(chr1=genome.encode()), for_ref=True, attributes=True)
    found, expected = counted(*annotator.annotate(lines)), annotator.counts
    assert (found.records, found.ids, found.alleles) == (expected.records, expected.ids, expected.alleles)
    assert found.unknown_contigs == expected.unknown_contigs
    assert sum(found.errors.values()) == sum(expected.errors.values())
    if max(len(line.split(b"\t")[3]) for line in lines) <= QUOTED:
        assert found.errors == expected.errors


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        (record("VRS_Allele_IDs=.,."), True),
        (record("VRS_Allele_IDs=."), True),
        (record("VRS_Allele_IDs=.,.", alt="<DEL>"), True),
        (record("VRS_Allele_IDs=.", alt="<DEL>"), False),
        (record("VRS_Allele_IDs", alt="."), False),
        (record("VRS_Allele_IDs=.", alt="."), True),
        (record("VRS_Allele_IDs=.,.", ref="<"), False),
    ],
)
def test_a_sequence_without_identifier_and_error_is_on_an_unknown_contig(line: bytes, unknown: bool) -> None:
    assert counted(line).unknown_contigs == ({"chrEBV": 1} if unknown else {})


def test_errors_in_anyvars_words_are_counted_by_cause_and_shown() -> None:
    stale = "VRS_Allele_IDs=ga4gh:VA.x;"
    counts = counted(
        record(
            stale + "VRS_Error=Reference mismatch at GRCh38:chrEBV (input gave 'A' but correct ref is 'C'%2C)"
        ),
        record("VRS_Error=list index out of range"),
    )
    assert (counts.errors, counts.ids) == ({"ref_mismatch": 1, "other": 1}, 0)
    assert counts.examples["ref_mismatch"] == [
        "chrEBV:7 Reference mismatch at GRCh38:chrEBV (input gave 'A' but correct ref is 'C',)"
    ]
    assert list(notes_on(counts, "GRCh38", "in.vcf")) == [
        "in.vcf has 1 of 2 records with a REF that differs from the reference GRCh38; they carry VRS_Error",
        "in.vcf has 1 of 2 records with another VRS_Error",
    ]


def test_what_is_no_record_is_not_counted() -> None:
    with pytest.raises(ValueError, match="3 tab-separated columns"):
        counted(b"chr1\t1\t.")
