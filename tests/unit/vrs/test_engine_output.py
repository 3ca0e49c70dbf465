"""What the annotator makes of record lines: fields, untouched bytes, counts, kept alleles, refusals."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from engines import Annotator
from memory_reference import MemoryReference

from anyvar_step.vrs import RecordError
from anyvar_step.vrs.fields import FIELD_NAMES, header_lines

pytestmark = pytest.mark.usefixtures("engine")

GENOME = b"ACGTTTTGCA" + b"CAG" * 10 + b"NRAC" + b"G" * 60


def reference() -> MemoryReference:
    return MemoryReference(chr1=GENOME)


def line(ref: str, alt: str, pos: object = 1, info: str = ".", chrom: str = "chr1", more: str = "") -> bytes:
    return f"{chrom}\t{pos}\tid\t{ref}\t{alt}\t.\tPASS\t{info}{more}".encode()


def annotate(*lines: bytes, for_ref: bool = True, attributes: bool = True) -> list[dict[str, str]]:
    annotator = Annotator(reference(), for_ref=for_ref, attributes=attributes)
    found = [record.split(b"\t")[7].decode() for record in annotator.annotate(list(lines))]
    return [dict(item.partition("=")[::2] for item in info.split(";")) for info in found]


def test_an_snv_gets_the_published_serialisation_of_its_alleles() -> None:
    """The digests, worked out here from the texts of docs/contract.md#vrs-identifiers."""
    import base64
    import hashlib

    def digest(text: str) -> str:
        return base64.urlsafe_b64encode(hashlib.sha512(text.encode()).digest()[:24]).decode()

    accession = reference().contigs()[0].accession
    place = digest(
        f'{{"end":2,"sequenceReference":{{"refgetAccession":"{accession}","type":"SequenceReference"}},'
        '"start":1,"type":"SequenceLocation"}'
    )
    states = (
        '{"length":1,"repeatSubunitLength":1,"type":"ReferenceLengthExpression"}',
        '{"sequence":"T","type":"LiteralSequenceExpression"}',
    )
    texts = [f'{{"location":"{place}","state":{state},"type":"Allele"}}' for state in states]
    assert annotate(line("C", "T", 2)) == [
        {
            "VRS_Allele_IDs": ",".join("ga4gh:VA." + digest(text) for text in texts),
            "VRS_Starts": "1,1",
            "VRS_Ends": "2,2",
            "VRS_States": "C,T",
            "VRS_Lengths": "1,.",
            "VRS_RepeatSubunitLengths": "1,.",
        }
    ]


def test_only_info_grows_and_genotypes_and_odd_bytes_stay() -> None:
    annotator = Annotator(reference(), for_ref=True, attributes=False)
    records = [
        line("A", "C", info="DP=3;NOTE=\u00e4 b", more="\tGT:X\t0/1:\t\u00ff%s"),
        line("A", "ATT", info="FLAG", more="\tGT\t./."),
        line("A", "C"),
        line("A", "C", pos="0001"),
    ]
    for before, after in zip(records, annotator.annotate(records), strict=True):
        old, new = before.split(b"\t"), after.split(b"\t")
        assert new[:7] + new[8:] == old[:7] + old[8:]
        assert new[7].startswith(b"VRS_Allele_IDs=" if old[7] == b"." else old[7] + b";VRS_Allele_IDs=")


def test_annotating_twice_is_annotating_once() -> None:
    records = [line("A", "C", info="DP=3"), line("A", "<DEL>"), line("G", "C"), line("A", "ACC", info="X")]
    annotator = Annotator(reference(), for_ref=True, attributes=True)
    once = annotator.annotate(records)
    assert annotator.annotate(once) == once


def test_older_vrs_fields_go_even_where_no_new_ones_come() -> None:
    annotator = Annotator(reference(), for_ref=False, attributes=False)
    records = [line("A", ".", info="VRS_Error=x;DP=2;VRS_Starts=1"), line("A", ".", info="VRS_Allele_IDs=.")]
    assert [record.split(b"\t")[7] for record in annotator.annotate(records)] == [b"DP=2", b"."]


def test_fields_of_others_that_only_look_like_ours_stay() -> None:
    (fields,) = annotate(line("A", "C", info="XVRS_Starts=5;VRS_Mine=1"), attributes=False)
    assert fields["XVRS_Starts"] == "5"
    assert fields["VRS_Mine"] == "1"


@pytest.mark.parametrize("alt", ["<DEL>", "*", "C[chr2:321[", "T.", ".A", "AP", "", "A]x:1]"])
def test_an_alt_without_a_sequence_gets_a_point_and_the_others_their_identifiers(alt: str) -> None:
    for listed, places in ((alt, [1]), (f"C,{alt}", [2]), (f"{alt},C", [1]), (f"C,{alt},T", [2])):
        (fields,) = annotate(line("A", listed))
        for values in fields.values():
            assert len(values.split(",")) == len(listed.split(",")) + 1
        missing = [i for i, name in enumerate(fields["VRS_Allele_IDs"].split(",")) if name == "."]
        assert missing == places


def test_alt_missing_is_the_ref_allele_alone() -> None:
    (fields,) = annotate(line("A", "."))
    assert fields["VRS_Starts"] == "0"
    assert len(fields["VRS_Allele_IDs"]) == 41
    assert annotate(line("A", "."), for_ref=False) == [{".": ""}]


def test_lower_case_and_iupac_codes_are_sequences() -> None:
    lower, upper = annotate(line("a", "r"), line("A", "R"))
    assert lower == upper
    (at_n,) = annotate(line("NR", "NN", 41))
    assert at_n["VRS_States"] == "NR,N"


def test_without_ref_and_without_attributes_there_are_alt_identifiers_only() -> None:
    full = annotate(line("A", "C,G"))[0]["VRS_Allele_IDs"].split(",")
    assert annotate(line("A", "C,G"), for_ref=False, attributes=False) == [
        {"VRS_Allele_IDs": ",".join(full[1:])}
    ]


def test_a_ref_mismatch_becomes_a_legal_error_that_unquotes_to_the_known_message() -> None:
    (fields,) = annotate(line("G", "C", 2))
    assert list(fields) == ["VRS_Error"]
    assert not set(fields["VRS_Error"]) & set(" \t;=,")
    assert unquote(fields["VRS_Error"]) == (
        "Reference mismatch at GRCh38:chr1 position 1-2 (input gave 'G' but correct ref is 'C')"
    )


def test_an_error_shows_fifty_bases_of_a_sequence() -> None:
    (fields,) = annotate(line("T" * 80, "C"))
    message = unquote(fields["VRS_Error"])
    assert f"'{'T' * 50}'" in message
    assert "position 0-80" in message


@pytest.mark.parametrize("pos", [0, len(GENOME) + 1, 2**62, 9223372036854775807, 9999999999999999999])
def test_a_position_outside_the_contig_is_the_records_error(pos: int) -> None:
    (fields,) = annotate(line("N", "A", pos))
    assert "but correct ref is ''" in unquote(fields["VRS_Error"])


def test_ref_is_not_checked_where_nothing_is_translated() -> None:
    assert annotate(line("G", "<DEL>"), for_ref=False, attributes=False) == [{"VRS_Allele_IDs": "."}]
    assert annotate(line("<X>", "A"), attributes=False) == [{"VRS_Allele_IDs": ".,."}]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"chr1\t1\tid\tA\tC\t.\tPASS",
        *(line("A", "C", p) for p in ("x", "-5", "", "1_0", "1" * 20, "1" * 5000)),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_line_that_is_no_record_is_refused_with_its_place(bad: bytes, keep: bool) -> None:
    annotator = Annotator(reference(), for_ref=True, attributes=True, keep_alleles=keep)
    good = line("A", "C")
    annotator.annotate([good])
    with pytest.raises(RecordError) as caught:
        annotator.annotate([good, good, bad, good])
    assert caught.value.index == 2
    reason = "empty line" if not bad else "columns" if b"PASS\t" not in bad else "POS"
    assert reason in caught.value.reason


def test_a_records_fields_do_not_depend_on_what_else_is_in_the_block() -> None:
    """Contigs by turns, also unknown ones, lines with and without genotypes, places that records share."""
    genome = MemoryReference(chr1=GENOME, chr2=GENOME[::-1])
    alts = ("C", "T", "AT", "C,<NON_REF>", "<DEL>,C", ".")
    records = [
        line("A", alt, pos, info, chrom, more)
        for alt in alts
        for pos, chrom in ((1, "chr1"), (1, "chr1"), (44, "chr2"), (1, "chrX"), (2, "chr1"), (0, "chr2"))
        for info in (".", "DP=3", "VRS_Starts=7")
        for more in ("", "\tGT\t0/1")
    ]
    for keep in (False, True):
        whole, single = (
            Annotator(genome, for_ref=True, attributes=True, keep_alleles=keep) for _ in range(2)
        )
        for _ in range(2):
            assert whole.annotate(records) == [single.annotate([record])[0] for record in records]
        assert whole.counts == single.counts
        assert whole.counts.contigs == {"chr1": 216, "chr2": 144, "chrX": 72}


def test_counts_tell_what_was_met() -> None:
    annotator = Annotator(reference(), for_ref=True, attributes=True)
    records = [
        line("A", "C"),
        line("A", "C,<DEL>,*"),
        line("ACG", "ATT"),
        line("ACG", "A"),
        line("A", "AT"),
        line("ACG", "TT"),
        line("A", "A"),
        line("A", "A[chr1:3["),
        line("A", "."),
        line("A", "AP"),
        line("G", "C"),
        line("A", "C", 9999),
        line("A", "C", chrom="chrX"),
        line("A", "<DEL>", chrom="chr-\u00e4"),
    ]
    annotator.annotate(records[:5])
    annotator.annotate(records[5:])
    counts = annotator.counts
    assert counts.records == len(records)
    assert counts.alleles == {
        "snv": 5,
        "symbolic": 2,
        "overlapping": 1,
        "mnv": 1,
        "deletion": 1,
        "insertion": 1,
        "delins": 1,
        "same_as_ref": 1,
        "breakend": 1,
        "missing": 1,
        "other": 1,
    }
    assert counts.errors == {"ref_mismatch": 1, "position": 1}
    assert counts.unknown_contigs == {"chrX": 1, "chr-\u00e4": 1}
    assert counts.ids == 17


@pytest.mark.parametrize("for_ref", [True, False])
@pytest.mark.parametrize("attributes", [True, False])
def test_keeping_alleles_changes_no_line_and_no_count(for_ref: bool, attributes: bool) -> None:
    alts = ["C", "c", "A", "C,T", "C,G,T", "<NON_REF>", "C,<NON_REF>", "*,C", ".", "AT", "C,AT", "R"]
    records = [line("A", alt, pos, info) for alt in alts for pos in (1, 2, 0) for info in (".", "DP=1", "")]
    plain = Annotator(reference(), for_ref=for_ref, attributes=attributes)
    keeping = Annotator(reference(), for_ref=for_ref, attributes=attributes, keep_alleles=True)
    for _ in range(2):
        assert plain.annotate(records) == keeping.annotate(records)
    assert plain.counts == keeping.counts
    assert len(plain.alleles) == 0


def test_kept_alleles_are_what_the_fields_say() -> None:
    """Locations shared or not."""
    lines = [line("C", "T", 2), line("C", "A,G", 2), line("C", "CT,<DEL>,G", 2), line("CAG", "C", 11)]
    lines += [line("G", "<NON_REF>", 3), line("G", "C", 3), line("T", "A", 3), line("G", "g", 3)]
    annotator = Annotator(reference(), for_ref=True, attributes=True, keep_alleles=True)
    annotator.annotate(lines)
    expected = []
    for record in annotate(*lines):
        if "VRS_Error" not in record:
            values = [record[f"VRS_{name}"].split(",") for name in ("Allele_IDs", "Starts", "Ends", "States")]
            values += [record[f"VRS_{name}"].split(",") for name in ("Lengths", "RepeatSubunitLengths")]
            expected += [tuple(allele) for allele in zip(*values, strict=True) if allele[0] != "."]
    found = [
        (a.id, *("." if value in (None, "") else str(value) for value in (a.start, a.end, *a[5:])))
        for a in annotator.alleles
    ]
    assert found == expected
    assert annotator.alleles[-1] == annotator.alleles[len(expected) - 1] == annotator.alleles[-1:][0]
    assert len({a.location_id for a in annotator.alleles}) == len({a[2:5] for a in annotator.alleles})


def test_kept_alleles_are_those_of_the_last_block_in_order() -> None:
    annotator = Annotator(reference(), for_ref=True, attributes=True, keep_alleles=True)
    annotator.annotate([line("A", "C")])
    (written,) = annotator.annotate([line("T", "TT,G", 4)])
    info = dict(item.partition("=")[::2] for item in written.split(b"\t")[7].decode().split(";"))
    ref, longer, other = annotator.alleles
    assert info["VRS_Allele_IDs"] == ",".join(allele.id for allele in annotator.alleles)
    assert (ref.start, ref.end, ref.sequence, ref.length, ref.repeat_subunit_length) == (3, 4, "T", 1, 1)
    assert (longer.start, longer.end, longer.sequence, longer.length) == (3, 7, "TTTTT", 5)
    assert (other.sequence, other.length) == ("G", None)
    assert ref.location_id == other.location_id != longer.location_id
    assert ref.location_id.startswith("ga4gh:SL.")
    assert {allele.accession for allele in annotator.alleles} == {reference().contigs()[0].accession}
    annotator.annotate([line("A", "<DEL>", chrom="none")])
    assert len(annotator.alleles) == 0


def test_header_lines_declare_every_field_that_is_written() -> None:
    for for_ref, number in ((True, "R"), (False, "A")):
        lines = [text.decode() for text in header_lines(for_ref, attributes=True)]
        assert len(lines) == len(FIELD_NAMES)
        for name in FIELD_NAMES:
            (own,) = [text for text in lines if text.startswith(f"##INFO=<ID={name.decode()},")]
            assert f"Number={'.' if name == b'VRS_Error' else number}," in own
    assert len(header_lines(for_ref=True, attributes=False)) == 2
    assert b"VRS version=2.0.1" in header_lines(for_ref=True, attributes=False)[0]
