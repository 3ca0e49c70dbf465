"""VRS fields read back: which claims hold, which do not, which cannot be told; and counted."""

from __future__ import annotations

import pytest
from engines import Annotator, current, readable
from hypothesis import HealthCheck, given, settings
from made_up import cases
from memory_reference import MemoryReference

from anyvar_step.models import Counts
from anyvar_step.pipeline.assembly import notes_on
from anyvar_step.reference import Reference
from anyvar_step.vrs import digest
from anyvar_step.vrs.fields import QUOTED
from anyvar_step.vrs.validate import (
    NEEDED,
    Claim,
    Conflict,
    RecomputedCheck,
    StatedCheck,
    claims_of,
    includes_ref,
    lacking,
    tally,
)

pytestmark = pytest.mark.usefixtures("engine")

GENOME = b"ACGTTTTGCA" + b"CAG" * 30 + b"NRAC"
RECORDS = [b"chr1\t2\t.\tC\tT,G\t.\t.\tDP=1", b"chr1\t4\t.\tT\tTT\t.\t.\t.", b"chr1\t11\t.\tCAG\tC\t.\t.\t."]


def reference() -> Reference:
    return readable(MemoryReference(chr1=GENOME))


def annotated(*lines: bytes) -> list[bytes]:
    return Annotator(reference(), for_ref=True, attributes=True).annotate(list(lines or RECORDS))


def check(lines: list[bytes]) -> tuple[list[Conflict], list[str]]:
    """What holds by itself, and what does not."""
    trusted = StatedCheck(reference())
    conflicts = trusted.check(lines, [claims_of(line) for line in lines])
    return conflicts, [allele.id for allele in trusted.alleles]


def test_what_the_annotator_wrote_is_read_back_as_it_was() -> None:
    annotator = Annotator(reference(), for_ref=True, attributes=True, keep_alleles=True)
    lines = annotator.annotate(RECORDS)
    trusted = StatedCheck(reference())
    assert trusted.check(lines, [claims_of(line) for line in lines]) == []
    assert list(trusted.alleles) == list(annotator.alleles)
    assert (trusted.counts.records, trusted.counts.ids) == (3, 7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"VRS_Starts", b"0"),
        (b"VRS_Ends", b"3"),
        (b"VRS_States", b"A"),
        (b"VRS_Allele_IDs", b"ga4gh:VA." + b"A" * 32),
    ],
)
def test_a_claim_whose_parts_do_not_fit_is_left_out(field: bytes, value: bytes) -> None:
    [line] = annotated(b"chr1\t2\t.\tC\tT\t.\t.\t.")
    ref, alt = claims_of(line)
    head, _, tail = line.partition(field + b"=")
    values, semicolon, tail = tail.partition(b";")
    broken = head + field + b"=" + values.split(b",")[0] + b"," + value + semicolon + tail
    conflicts, alleles = check([broken])
    assert alleles == [ref.id.decode()]
    [conflict] = conflicts
    assert conflict.place == 0
    assert conflict.new_id.startswith(b"ga4gh:VA.")
    assert (conflict.new_id == alt.id) == (field == b"VRS_Allele_IDs")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"VRS_Starts", b"x"),
        (b"VRS_Starts", b"9"),  # behind its end
        (b"VRS_Ends", b"9999"),  # behind the contig's
        (b"VRS_States", b"A"),  # not what the reference repeats
        (b"VRS_Lengths", b"."),
        (b"VRS_RepeatSubunitLengths", b"0"),
        (b"VRS_RepeatSubunitLengths", b"2"),
    ],
)
def test_a_claim_that_describes_no_allele_has_no_new_id(field: bytes, value: bytes) -> None:
    [line] = annotated(b"chr1\t2\t.\tC\t<DEL>\t.\t.\t.")
    head, _, tail = line.partition(field + b"=")
    conflicts, alleles = check([head + field + b"=" + value + b"," + tail.partition(b",")[2]])
    assert [conflict.new_id for conflict in conflicts] == [b""]
    assert alleles == []


def claim(line: bytes, state: bytes, id_: bytes | None = None) -> bytes:
    """The record's one allele with another state and no lengths."""
    [found] = claims_of(line)
    start, end = found.texts[:2]
    fields = [b"VRS_Allele_IDs=" + (id_ or found.id), b"VRS_Starts=" + start, b"VRS_Ends=" + end]
    fields += [b"VRS_States=" + state, b"VRS_Lengths=.", b"VRS_RepeatSubunitLengths=."]
    return b"\t".join([*line.split(b"\t")[:7], b";".join(fields)])


def test_an_empty_state_is_settled_by_the_identifier_or_named_as_ambiguous() -> None:
    [line] = Annotator(reference(), for_ref=False, attributes=True).annotate(
        [b"chr1\t11\t.\tCAG\tC\t.\t.\t."]
    )
    conflicts, alleles = check([claim(line, b".")])
    assert [(conflict.new_id, conflict.claim.is_ambiguous) for conflict in conflicts] == [(b"", True)]
    assert alleles == []
    accession = reference().contigs()[0].accession.encode()
    [found] = claims_of(line)
    place = digest.sha512t24u(digest.location(accession, *found.texts[:2]))
    empty = b"ga4gh:VA." + digest.sha512t24u(digest.allele(place, b"", b".", b"."))
    conflicts, alleles = check([claim(line, b".", empty)])
    assert (conflicts, alleles) == ([], [empty.decode()])


def test_a_sequence_that_an_older_version_left_out_is_filled_in() -> None:
    [line] = annotated(b"chr1\t4\t.\tT\tTT\t.\t.\t.")
    without = line.replace(b"VRS_States=T,TTTTT", b"VRS_States=.,.")
    assert without != line
    trusted = StatedCheck(reference())
    assert trusted.check([without], [claims_of(without)]) == []
    assert [allele.sequence for allele in trusted.alleles] == ["T", "TTTTT"]


def test_ids_are_computed_anew_from_ref_and_alt() -> None:
    lines = annotated()
    lines[1] = lines[1].replace(b"ga4gh:VA.", b"ga4gh:VA.x", 1)
    plain = b"chr1\t2\t.\tC\tA\t.\t.\tDP=1"
    recomputed = RecomputedCheck(reference(), for_ref=True, choice=current())
    conflicts = recomputed.check([plain, *lines], [claims_of(line) for line in [plain, *lines]])
    right = claims_of(annotated()[1])[0].id
    assert [(conflict.place, conflict.new_id) for conflict in conflicts] == [(2, right)]
    assert len(recomputed.alleles) == 7  # those of the records that make claims
    assert recomputed.counts.records == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"VRS_Starts", b"0"),
        (b"VRS_Ends", b"3"),
        (b"VRS_States", b"A"),
        (b"VRS_Lengths", b"1"),
        (b"VRS_RepeatSubunitLengths", b"1"),
    ],
)
def test_a_location_or_state_that_is_not_that_of_ref_and_alt_is_a_conflict_beside_the_right_id(
    field: bytes, value: bytes
) -> None:
    [line] = annotated(b"chr1\t2\t.\tC\tT\t.\t.\t.")
    head, _, tail = line.partition(field + b"=")
    values, semicolon, tail = tail.partition(b";")
    broken = head + field + b"=" + values.split(b",")[0] + b"," + value + semicolon + tail
    recomputed = RecomputedCheck(reference(), for_ref=True, choice=current())
    [conflict] = recomputed.check([broken], [claims_of(broken)])
    _, alt = claims_of(line)
    assert (conflict.claim.id, conflict.new_id) == (alt.id, alt.id)
    assert conflict.claim != alt
    assert [allele.id for allele in recomputed.alleles] == [claim.id.decode() for claim in claims_of(line)]


def test_the_right_allele_written_in_another_way_is_no_conflict() -> None:
    """A sequence that an older version left out, fields in another order; unknown contigs cannot be told."""
    [line] = annotated(b"chr1\t4\t.\tT\tTT\t.\t.\t.")
    columns = line.split(b"\t")
    columns[7] = b";".join(reversed(columns[7].split(b";"))).replace(b"States=T,TTTTT", b"States=.,.")
    other = b"\t".join(columns)
    unknown = b"chrUn" + line[4:]
    recomputed = RecomputedCheck(reference(), for_ref=True, choice=current())
    assert recomputed.check([other, unknown], [claims_of(other), claims_of(unknown)]) == []


def test_missing_values_and_unknown_contigs_are_no_conflicts() -> None:
    lines = annotated(b"chr1\t2\t.\tC\t<DEL>\t.\t.\t.", b"chr1\t2\t.\tC\tT\t.\t.\t.")
    lines[1] = b"other" + lines[1][4:]
    conflicts, alleles = check(lines)
    assert conflicts == []
    assert len(alleles) == 1


@pytest.mark.parametrize("info", [b".", b"DP=1", b"VRS_Error=none", b"VRS_Allele_IDs", b"XVRS_Allele_IDs=1"])
def test_a_record_without_identifiers_makes_no_claim(info: bytes) -> None:
    assert claims_of(b"chr1\t2\t.\tC\tT\t.\t.\t" + info) == []


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (b"VRS_Allele_IDs=a", "without VRS_Starts"),
        (
            b"VRS_Allele_IDs=a;VRS_Starts=1,2;VRS_Ends=2;VRS_States=A;VRS_Lengths=.;VRS_RepeatSubunitLengths=.",
            "different numbers",
        ),
    ],
)
def test_fields_that_cannot_belong_together_are_refused(info: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        claims_of(b"chr1\t2\t.\tC\tT\t.\t.\t" + info)


def test_the_header_must_declare_what_is_needed() -> None:
    header = [b"##INFO=<ID=VRS_Allele_IDs,Number=R,Type=String>", b"##INFO=<ID=VRS_Starts,Number=R>"]
    assert lacking(header) == [b"VRS_Ends", b"VRS_States", b"VRS_Lengths", b"VRS_RepeatSubunitLengths"]
    assert Claim(b"a", (b"1", b"2", b".", b"3", b"1")).is_ambiguous is False


@pytest.mark.parametrize("number", ["R", "A"])
def test_a_header_line_says_the_same_in_whatever_order(number: str) -> None:
    orders = (
        'ID={},Number={},Type=String,Description="x, Number=Q,ID=y"',
        'Number={1},Type=String,Description="x",ID={0}',
        "Type=String,ID={},Number={}",
        'Description="a \\"b\\", Number=Q,ID=z",Number={1},ID={0}',
    )
    for order in orders:
        header = [f"##INFO=<{order.format(name.decode(), number)}>".encode() for name in NEEDED]
        assert lacking(header) == []
        assert includes_ref(header) is (number == "R")


def counted(*lines: bytes) -> Counts:
    counts = Counts()
    tally(lines, counts)
    return counts


def unknown_record(info: str, ref: str = "A", alt: str = "C") -> bytes:
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
        (unknown_record("VRS_Allele_IDs=.,."), True),
        (unknown_record("VRS_Allele_IDs=."), True),
        (unknown_record("VRS_Allele_IDs=.,.", alt="<DEL>"), True),
        (unknown_record("VRS_Allele_IDs=.", alt="<DEL>"), False),
        (unknown_record("VRS_Allele_IDs", alt="."), False),
        (unknown_record("VRS_Allele_IDs=.", alt="."), True),
        (unknown_record("VRS_Allele_IDs=.,.", ref="<"), False),
    ],
)
def test_a_sequence_without_identifier_and_error_is_on_an_unknown_contig(line: bytes, unknown: bool) -> None:
    assert counted(line).unknown_contigs == ({"chrEBV": 1} if unknown else {})


def test_errors_in_anyvars_words_are_counted_by_cause_and_shown() -> None:
    stale = "VRS_Allele_IDs=ga4gh:VA.x;"
    counts = counted(
        unknown_record(
            stale + "VRS_Error=Reference mismatch at GRCh38:chrEBV (input gave 'A' but correct ref is 'C'%2C)"
        ),
        unknown_record("VRS_Error=list index out of range"),
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
