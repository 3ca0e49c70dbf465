"""Records that callers write and parsers trip over: blocks, structural variants, giants, odd names."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pysam.bcftools
import pytest
from memory_reference import MemoryReference

from anyvar_step.models import AnnotateOptions, OutputFormat
from anyvar_step.pipeline import Outcome, annotate_file
from anyvar_step.pipeline.assembly import AssemblyCheck
from anyvar_step.vcf import write_index
from anyvar_step.vrs import digest

GENOME = "".join(random.Random(7).choices("ACGT", k=250_000))
REFERENCE = MemoryReference(chr1=GENOME.encode())
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def annotated(
    folder: Path,
    *records: str,
    header: tuple[str, ...] = (),
    samples: str = "",
    reference: MemoryReference = REFERENCE,
    form: OutputFormat = "v",
    attributes: bool = False,
) -> tuple[Path, Outcome]:
    """A VCF of these records, annotated; every other byte is checked to have stayed."""
    lines = ["##fileformat=VCFv4.4", *header, COLUMNS + samples, *records]
    source, target = folder / "in.vcf", folder / ("out.vcf.gz" if form == "z" else "out.vcf")
    source.write_text("\n".join(lines) + "\n")
    options = AnnotateOptions(add_vrs_attributes=attributes)
    check = AssemblyCheck(reference.assembly, source.name, force=True)  # the records differ on purpose
    outcome = annotate_file(source, target, reference, options, output_format=form, check=check)
    with pysam.BGZFile(str(target)) if form == "z" else target.open("rb") as file:
        out = file.read().decode().splitlines()
    assert [before(line) for line in out if not line.startswith("##INFO=<ID=VRS_")] == lines
    return target, outcome


def before(line: str) -> str:
    """A line as it was before."""
    if line.startswith("#"):
        return line
    columns = line.split("\t")
    kept = [item for item in columns[7].split(";") if not item.startswith("VRS_")]
    columns[7] = ";".join(kept) or "."
    return "\t".join(columns)


def ids(path: Path) -> list[list[str]]:
    """For each record ``id`` or ``.`` for each allele; the error's name for a record that has one."""
    found = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            info = dict(item.partition("=")[::2] for item in line.split("\t")[7].split(";"))
            values = info.get("VRS_Allele_IDs", "VRS_Error").split(",")
            found.append(["id" if value.startswith("ga4gh:VA.") else value for value in values])
    return found


def accepted(path: Path) -> int:
    """The records that bcftools reads."""
    text = str(pysam.bcftools.view("-H", "--no-version", str(path)))
    return text.count("\n")


A, T = GENOME[99], "ACGT".replace(GENOME[99], "")[0]
CORNERS = {
    "a gVCF block": (f"{A}\t<NON_REF>", "END=150", ["id", "."]),
    "a variant in a gVCF": (f"{A}\t{T},<NON_REF>", ".", ["id", "id", "."]),
    "bcftools' gVCF block": (f"{A}\t<*>", "END=150", ["id", "."]),
    "a REF block without ALT": (f"{A}\t.", "END=150", ["id"]),
    "a deletion": (f"{A}\t<DEL>", "SVTYPE=DEL;END=150;SVLEN=-50", ["id", "."]),
    "an insertion of a mobile element": (f"{A}\t<INS:ME:ALU>", "SVTYPE=INS", ["id", "."]),
    "copy numbers": (f"{A}\t<CN0>,<CN2>,<CN3>", "SVTYPE=CNV;END=150", ["id", ".", ".", "."]),
    "a tandem repeat": (f"{A}\t<CNV:TR>,<CNV:TR>", "SVLEN=30,30;RN=1,1;RUS=CAG,CAG", ["id", ".", "."]),
    "breakends": (f"{A}\t{A}[chr2:321[,]chr2:5]{A},{A}]<ctg1>:7]", "SVTYPE=BND", ["id", ".", ".", "."]),
    "single breakends": (f"{A}\t{A}.,.{A}", "SVTYPE=BND", ["id", ".", "."]),
    "an overlapping deletion": (f"{A}\t*,{T}", ".", ["id", ".", "id"]),
    "all in one": (f"{A}\t{T},<DEL>,*,{A}TTG,{A}[chr2:3[", ".", ["id", "id", ".", ".", "id", "."]),
    "an angle bracket that is no allele": (f"{A}\t<>", ".", ["id", "."]),
}


@pytest.mark.parametrize("case", CORNERS)
def test_what_vrs_cannot_name_gets_a_dot_and_the_others_their_ids(tmp_path: Path, case: str) -> None:
    alleles, info, expected = CORNERS[case]
    path, _ = annotated(tmp_path, f"chr1\t100\t.\t{alleles}\t.\t.\t{info}", header=("##contig=<ID=chr1>",))
    assert ids(path) == [expected]
    if case != "an angle bracket that is no allele":
        assert accepted(path) == 1


def test_alleles_of_a_hundred_thousand_bases_are_named(tmp_path: Path) -> None:
    """Each id follows from the whole sequence (docs/contract.md#vrs-identifiers)."""
    inserted = "".join(random.Random(8).choices("ACGT", k=100_000))
    first = next(base for base in "ACGT" if base not in (GENOME[1000], inserted[-1], GENOME[999]))
    inserted = first + inserted[1:-1] + first
    deleted = GENOME[50_000:150_000]
    replaced = GENOME[150_000:250_000]
    rows = (
        f"chr1\t1000\t.\t{GENOME[999]}\t{GENOME[999]}{inserted}\t.\t.\t.",
        f"chr1\t50000\t.\t{GENOME[49_999]}{deleted}\t{GENOME[49_999]}\t.\t.\t.",
        f"chr1\t150001\t.\t{replaced}\t{inserted}\t.\t.\t.",
    )
    path, outcome = annotated(tmp_path, *rows, attributes=True)
    assert outcome.counts.alleles == {"insertion": 1, "deletion": 1, "mnv": 1}
    infos = [line.split("\t")[7] for line in path.read_text().splitlines() if not line.startswith("#")]
    accession = REFERENCE.contigs()[0].accession.encode()
    place = digest.sha512t24u(digest.location(accession, b"1000", b"1000"))
    state = b'{"sequence":"%b","type":"LiteralSequenceExpression"}' % inserted.encode()
    text = b'{"location":"%b","state":%b,"type":"Allele"}' % (place, state)
    assert f",ga4gh:VA.{digest.sha512t24u(text).decode()};" in infos[0]
    assert f",{inserted};" in infos[0]
    deletion = dict(item.split("=") for item in infos[1].split(";"))
    start, end, length = (
        int(deletion[f"VRS_{field}"].split(",")[1]) for field in ("Starts", "Ends", "Lengths")
    )
    assert (start <= 50_000, end >= 150_000, end - start - length) == (True, True, 100_000)
    assert deletion["VRS_RepeatSubunitLengths"] == "100001,100000"
    assert accepted(path) == 3


def test_positions_of_64_bits_are_errors_on_a_contig_that_ends_before(tmp_path: Path) -> None:
    rows = [f"chr1\t{pos}\t.\tA\tC\t.\t.\t." for pos in (2**31, 2**40, 2**63 - 1)]
    path, outcome = annotated(tmp_path, f"chr1\t100\t.\t{A}\t{T}\t.\t.\t.", *rows)
    assert ids(path) == [["id", "id"], *3 * [["VRS_Error"]]]
    assert outcome.counts.errors == {"position": 3}


def test_a_contig_beyond_512_mb_gets_a_csi_that_finds_its_end(tmp_path: Path) -> None:
    """As those of wheat and lungfish, whose chromosomes are that long."""

    class Long(MemoryReference):
        def contig(self, name: str):  # type: ignore[no-untyped-def]
            return None if name == "long" else super().contig(name)

    rows = [f"long\t{pos}\t.\tA\tC\t.\t.\t." for pos in (100, 2**29 + 5, 3_000_000_000)]
    target, _ = annotated(
        tmp_path,
        f"chr1\t100\t.\t{A}\t{T}\t.\t.\t.",
        *rows,
        header=("##contig=<ID=chr1>", "##contig=<ID=long,length=4000000000>"),
        reference=Long(chr1=GENOME.encode()),
        form="z",
    )
    assert write_index(target).name == "out.vcf.gz.csi"
    for where, count in (("long:536870000-536871000", 1), ("long:2999999999-3000000001", 1), ("long", 3)):
        found = str(pysam.bcftools.view("-H", "-r", where, str(target)))
        assert found.count("\n") == count, where


def test_ten_thousand_samples_stay_as_they_are(tmp_path: Path) -> None:
    samples = "\tFORMAT" + "".join(f"\tS{n}" for n in range(10_000))
    calls = "\tGT:AD:PL" + "".join(f"\t{n % 3 % 2}/1:{n},1:0,9,{n}" for n in range(10_000))
    rows = [f"chr1\t{n + 1}\t.\t{GENOME[n]}\t<NON_REF>\t.\t.\tEND={n + 1}{calls}" for n in range(20)]
    path, outcome = annotated(tmp_path, *rows, samples=samples)
    assert outcome.counts.ids == 20
    assert path.stat().st_size > 20 * 100_000


def test_a_header_without_contig_filter_and_info_lines_is_enough(tmp_path: Path) -> None:
    rows = (
        f"chr1\t100\t.\t{A}\t{T}\t.\tq10;LowQual\tDP=3;AF=0.5;CSQ=a|b",
        f"chr1\t100\trs1\t{A}\t{T}\t1e-3\tPASS\t.",
    )
    path, _ = annotated(tmp_path, *rows)
    assert ids(path) == 2 * [["id", "id"]]
    assert accepted(path) == 2


def test_odd_and_repeated_header_lines_stay_where_they_are(tmp_path: Path) -> None:
    odd = (
        "##contig=<ID=chr1>",
        "##contig=<ID=chr1>",
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="a \\"quoted, length=7>\\" word">',
        '##INFO=<ID=DP,Number=.,Type=String,Description="again, and otherwise">',
        '##INFO=<ID=OLD,Number=1,Type=String,Description="see ID=VRS_Allele_IDs, of old">',
        "##GATKCommandLine=<ID=HaplotypeCaller,CommandLine=\"x --y 'z <w>'\">",
        "##",
        "##=",
        "##no equals sign",
        "##contig=chr1",
        "##ALT=<ID=NON_REF,Description=>",
        "##reference=file:///a%20b/c.fa",
        '##SAMPLE=<ID=S1,Genomes=Germline;Tumor,Mixture=.3;.7,Description="Patient">',
    )
    path, _ = annotated(tmp_path, f"chr1\t100\t.\t{A}\t{T}\t.\t.\tDP=3", header=odd)
    assert ids(path) == [["id", "id"]]


ODD_NAMES = ("HLA-A*01:01:01:01", "chr1:1-100", "*", "<chr1>", "a,b", "chrUn|x", "1=2", "gi|9626|ref|NC_001")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_contig_may_have_any_name_that_a_fasta_can_give_it(tmp_path: Path, name: str) -> None:
    reference = MemoryReference(**{name: GENOME[:1000].encode()})
    rows = [f"{name}\t100\t.\t{A}\t{T}\t.\t.\t.", f"{name}\t100\t.\t{T}\t{A}\t.\t.\t."]
    header = (f"##contig=<ID={name},length=1000>",)
    path, outcome = annotated(tmp_path, *rows, header=header, reference=reference)
    assert ids(path) == [["id", "id"], ["VRS_Error"]]
    assert outcome.counts.contigs == {name: 2}
    target, _ = annotated(tmp_path, *rows, header=header, reference=reference, form="z")
    write_index(target)
    with pysam.TabixFile(str(target)) as file:
        assert file.contigs == [name]
        assert sum(1 for _ in file.fetch(reference=name, start=0, end=1000)) == 2
