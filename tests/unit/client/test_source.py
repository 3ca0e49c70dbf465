"""What is staged of an input: VCFs as they are, and of BCFs and selections what bcftools view gives."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pysam
import pysam.bcftools
import pytest

from anyvar_step.client.source import InputSource
from anyvar_step.errors import InputNotFound, InvalidInput, InvalidUsage
from anyvar_step.vcf import VcfReader
from anyvar_step.vcf.bgzf import EOF_BLOCK, BgzfWriter
from anyvar_step.vcf.index import read_tbi, write_tbi
from anyvar_step.vcf.select import Selection, open_vcf, parse_regions, write_bcf

TEXT = """\
##fileformat=VCFv4.3
##FILTER=<ID=PASS,Description="All filters passed">
##contig=<ID=chr1,length=1000>
##contig=<ID=chr2,length=1000>
##FILTER=<ID=q10,Description="Quality below 10">
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##INFO=<ID=AF,Number=A,Type=Float,Description="Fräquency">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2
chr1\t10\t.\tA\t<DEL>\t50\tPASS\tEND=300;DP=3\tGT\t0/1\t1|1
chr1\t100\trs1\tACGT\tA\t50\tPASS\tDP=9;AF=0.25\tGT\t0/1\t./.
chr1\t102\t.\tG\tC,T\t9.5\tq10\tAF=0.1,1e-05\tGT\t0/2\t1/2
chr1\t400\t.\tG\t<NON_REF>\t.\t.\tEND=500\tGT\t0/0\t0/0
chr2\t7\t.\tT\t.\t.\t.\t.\tGT\t0\t.
chr2\t900\t.\tT\tTA\t1e+06\tPASS\t.\tGT\t0/1\t0/1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One VCF as in.vcf, in.vcf.gz (indexed), plain.vcf.gz (not indexed) and in.bcf (indexed)."""
    place = tmp_path_factory.mktemp("intake")
    (place / "in.vcf").write_text(TEXT, encoding="utf-8")
    for name, kind in (("in.vcf.gz", "z"), ("plain.vcf.gz", "z"), ("in.bcf", "b"), ("plain.bcf", "b")):
        made = ("-O", kind, "-o", str(place / name), str(place / "in.vcf"))
        pysam.bcftools.view("--no-version", *made, catch_stdout=False)
        if name.startswith("in."):
            pysam.bcftools.index(str(place / name))
    return place


def staged(intake: InputSource) -> str:
    with intake.open() as raw:
        reader = VcfReader(raw, intake.name)
        lines = [*reader.header, *(line for lines in reader.blocks() for line in lines)]
    return "".join(f"{line.decode()}\n" for line in lines)


def viewed(path: Path, *arguments: str) -> str:
    return str(pysam.bcftools.view("--no-version", *arguments, str(path)))


def test_a_vcf_is_staged_byte_for_byte(folder: Path) -> None:
    for name in ("in.vcf", "in.vcf.gz"):
        with InputSource(folder / name).open() as raw:
            assert raw.read() == (folder / name).read_bytes()


def test_a_bcf_is_staged_as_the_vcf_that_htslib_makes_of_it(folder: Path) -> None:
    assert staged(InputSource(folder / "in.bcf")) == viewed(folder / "in.bcf") == TEXT
    assert InputSource(folder / "in.bcf").count() == 6


SELECTIONS = {
    "a position within a deletion": (Selection(regions="chr1:103"), ("-r", "chr1:103")),
    "a region within END": (Selection(regions="chr1:200-210,chr2"), ("-r", "chr1:200-210,chr2")),
    "regions out of order": (Selection(regions="chr1:400-500,chr1:1-101"), ("-r", "chr1:400-500,chr1:1-101")),
    "regions that overlap": (Selection(regions="chr1:1-200,chr1:50-300"), ("-r", "chr1:1-200,chr1:50-300")),
    "a contig without records": (Selection(regions="chrX"), ("-r", "chrX")),
    "targets": (Selection(targets="chr1:101-300"), ("-t", "chr1:101-300")),
    "all but targets": (Selection(targets="^chr1"), ("-t", "^chr1")),
    "no failed filter": (Selection(pass_only=True), ("-f", "PASS,.")),
    "no samples": (Selection(drop_genotypes=True), ("-G",)),
    "regions and the rest": (
        Selection(regions="chr1", pass_only=True, drop_genotypes=True),
        ("-r", "chr1", "-f", "PASS,.", "-G"),
    ),
}


@pytest.mark.parametrize("name", ["in.vcf", "in.vcf.gz", "plain.vcf.gz", "in.bcf", "plain.bcf"])
@pytest.mark.parametrize("case", SELECTIONS)
def test_a_selection_is_what_bcftools_view_selects(folder: Path, name: str, case: str) -> None:
    selection, arguments = SELECTIONS[case]
    assert staged(InputSource(folder / name, selection)) == viewed(folder / "in.vcf.gz", *arguments)


def test_regions_and_targets_come_from_files_too(folder: Path, tmp_path: Path) -> None:
    bed = tmp_path / "exons.bed"
    bed.write_text("chr1\t101\t102\nchr2\t0\t7\n")
    table = tmp_path / "places.txt"
    table.write_text("chr1\t100\n")
    for name in ("in.vcf", "in.bcf"):
        regions = Selection(regions_file=str(bed))
        assert staged(InputSource(folder / name, regions)) == viewed(folder / "in.bcf", "-R", str(bed))
        targets = Selection(targets_file=f"^{table}")
        assert staged(InputSource(folder / name, targets)) == viewed(folder / "in.bcf", "-T", f"^{table}")
    both = Selection(regions_file=str(bed), targets_file=f"^{table}")
    arguments = ("-R", str(bed), "-T", f"^{table}")
    assert staged(InputSource(folder / "in.bcf", both)) == viewed(folder / "in.bcf", *arguments)
    assert both.command_line() == ["--regions-file", "exons.bed", "--targets-file", "^places.txt"]


def test_regions_and_targets_together_ask_for_an_index(folder: Path) -> None:
    both = Selection(regions="chr1", targets="chr1:100")
    with pytest.raises(InvalidInput, match="Index IN with `bcftools index`"):
        staged(InputSource(folder / "plain.vcf.gz", both))


def test_an_index_older_than_its_file_is_not_believed(folder: Path, tmp_path: Path) -> None:
    """It may be another file's; with it records would be missing without a word."""
    stale = tmp_path / "in.vcf.gz"
    (tmp_path / "in.vcf.gz.csi").write_bytes((folder / "in.vcf.gz.csi").read_bytes())
    changed = TEXT.replace("chr2\t900", "chr2\t950").replace("chr1\t102", "chr1\t103")
    pysam.tabix_compress(str(_written(tmp_path / "x.vcf", changed)), str(stale))
    assert "chr2\t950" in staged(InputSource(stale, Selection(regions="chr2")))


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["in.vcf", "in.vcf.gz", "in.bcf"])
@pytest.mark.parametrize("selection", [Selection(), Selection(regions="chr1:300", drop_genotypes=True)])
def test_standard_input_is_staged_as_a_file_is(folder: Path, name: str, selection: Selection) -> None:
    code = (
        "import sys; from anyvar_step.client.source import InputSource, Selection\n"
        f"with InputSource(None, {selection!r}).open() as raw: sys.stdout.buffer.write(raw.read())"
    )
    with subprocess.Popen(["cat", folder / name], stdout=subprocess.PIPE) as cat:
        done = subprocess.run([sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, check=True)
    reader = VcfReader(io.BytesIO(done.stdout), "standard input")
    lines = [*reader.header, *(line for lines in reader.blocks() for line in lines)]
    assert "".join(f"{line.decode()}\n" for line in lines) == staged(InputSource(folder / name, selection))


def test_a_bcf_that_was_cut_is_named_and_never_passes_for_whole(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "in.bcf").read_bytes()
    for length in (len(whole) - 28, len(whole) - 60, 300):
        cut = tmp_path / "cut.bcf"
        cut.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=r"cut\.bcf is truncated"):
            InputSource(cut).check()
    with pytest.raises(InvalidInput, match=r"bcftools cannot read .*cut\.bcf"):
        staged(InputSource(cut))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"##\n" * 1_200_000, "a header of more than 1,048,576 lines"),
        (b"#" * ((1 << 26) + 1), "a header of more than 67,108,864 bytes"),
    ],
)
@pytest.mark.parametrize("stored", ["bgzf", "plain"])
def test_a_bcf_with_a_huge_header_is_refused_before_htslib_reads_it(
    tmp_path: Path, header: bytes, said: str, stored: str
) -> None:
    text = b"BCF\2\2" + len(header).to_bytes(4, "little") + header
    path = tmp_path / "bomb.bcf"
    if stored == "bgzf":
        with path.open("wb") as out, BgzfWriter(out, 1) as writer:
            writer.write(text)
    else:
        path.write_bytes(text)
    for source in (InputSource(path), InputSource(path, Selection(pass_only=True))):
        with pytest.raises(InvalidInput, match=f"bomb.bcf has {said}"):
            staged(source)
    with pytest.raises(InvalidInput, match=f"bomb.bcf has {said}"), open_vcf(path, "bomb.bcf"):
        pass


def test_a_file_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match=r"gone\.bcf does not exist"):
        InputSource(tmp_path / "gone.bcf").check()
    with pytest.raises(InputNotFound, match=r"--targets-file \^gone\.bed does not exist"):
        InputSource(folder / "in.bcf", Selection(targets_file="^gone.bed")).check()
    with pytest.raises(InputNotFound, match=r"--regions-file .* is a directory"):
        InputSource(folder / "in.bcf", Selection(regions_file=str(tmp_path))).check()
    os.mkfifo(tmp_path / "pipe")  # as `-R <(…)` names one
    with pytest.raises(InputNotFound, match=r"--regions-file .*pipe is a pipe .* Name a file"):
        InputSource(folder / "in.bcf", Selection(regions_file=str(tmp_path / "pipe"))).check()


@pytest.mark.parametrize("name", ["in.vcf.gz", "plain.vcf.gz", "in.bcf"])
@pytest.mark.parametrize(
    "text",
    [
        "chr1:x-y",
        "chr1:",
        "chr1:1-2-3",
        "chr1:20-10",
        "chr1,",
        ",chr1",
        "HLA:01:02",
        "{chr1",
        "chr1:1,000-2,000",
    ],
)
@pytest.mark.parametrize("option", ["regions", "targets"])
def test_what_is_no_region_is_wrong_usage_of_its_option(
    folder: Path, name: str, text: str, option: str
) -> None:
    with pytest.raises(InvalidUsage, match=f"^--{option}: ") as refused:
        staged(InputSource(folder / name, Selection(**{option: text})))
    assert refused.value.exit_code == 2


HLA = "HLA-A*01:01"
ODD = [HLA, f"{HLA}:01:01", f"{HLA}:01:40-60", "JAK2::chr1:1000", "chr1"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contigs with colons: declared.vcf.gz with an index, stream.vcf without, silent.vcf.gz undeclared."""
    place = tmp_path_factory.mktemp("odd")
    fixed = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    records = "".join(f"{name}\t{pos}\t.\tA\tC\t.\t.\t.\n" for name in ODD for pos in (1, 50, 1500))
    contigs = "".join(f"##contig=<ID={name}>\n" for name in ODD)
    (place / "stream.vcf").write_text(f"##fileformat=VCFv4.3\n{contigs}{fixed}{records}")
    for name, declared in (("declared", contigs), ("silent", "")):
        text = place / f"{name}.vcf"
        text.write_text(f"##fileformat=VCFv4.3\n{declared}{fixed}{records}")
        pysam.tabix_index(str(text), preset="vcf", force=True)
    return place


@pytest.mark.parametrize("name", ["declared.vcf.gz", "stream.vcf", "silent.vcf.gz"])
@pytest.mark.parametrize("option", ["regions", "targets"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{HLA}", [(HLA, 1), (HLA, 50), (HLA, 1500)]),
        (f"{HLA}:40-60", [(HLA, 50)]),
        (f"{HLA}:01:01:50", [(f"{HLA}:01:01", 50)]),
        (f"{HLA}:01:40-60:1,chr1:1-50", [(f"{HLA}:01:40-60", 1), ("chr1", 1), ("chr1", 50)]),
        ("JAK2::chr1:1000:1000-", [("JAK2::chr1:1000", 1500)]),
        (f"{{{HLA}}}:1", [(HLA, 1)]),
    ],
)
def test_contigs_with_colons_are_found_in_regions(
    odd: Path, name: str, option: str, text: str, found: list[tuple[str, int]]
) -> None:
    lines = staged(InputSource(odd / name, Selection(**{option: text}))).splitlines()
    places = [line.split("\t")[:2] for line in lines if not line.startswith("#")]
    assert places == [[contig, str(pos)] for contig, pos in found]


def test_a_stream_needs_no_declared_name_in_braces() -> None:
    assert parse_regions("{a:b}:1-2,c", "-r", lambda: ()) == "{a:b}:1-2,{c}"
    with pytest.raises(InvalidUsage, match=r"in braces"):
        parse_regions("a:b:1-2", "-r", lambda: ())
    assert parse_regions("c,omma:3,omma", "-r", lambda: ["c", "c,omma"]) == "{c,omma}:3,{omma}"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("end", ["\r", "\r\n", "\n", ""])
def test_line_ends_do_not_matter_under_a_selection(tmp_path: Path, end: str, compressed: bool) -> None:
    text = TEXT.rstrip("\n").replace("\n", "\r\n" if "\r" in end else "\n") + end
    path = tmp_path / "in.vcf"
    path.write_bytes(text.encode())
    if compressed:
        pysam.tabix_compress(str(path), str(path := tmp_path / "in.vcf.gz"))
    selected = staged(InputSource(path, Selection(pass_only=True)))
    assert "chr2\t900\t.\tT\tTA\t1e+06\tPASS\t.\tGT\t0/1\t0/1\n" in selected
    assert "\r" not in selected


@pytest.mark.parametrize("end", ["\r", "\r\n\r", "\r\n\r\n", "\n\r", "\n\n", "\n", ""])
def test_an_index_serves_whatever_ends_the_file(tmp_path: Path, end: str) -> None:
    """htslib's iterator over the index of a VCF refuses a last line that is empty or a CR.

    The index is as htslib 1.16 makes it, up to the end-of-file block; newer ones refuse to make it.
    """
    text = TEXT.rstrip("\n").replace("\n", "\r\n" if "\r" in end else "\n")
    path, bed = tmp_path / "in.vcf", _written(tmp_path / "in.bed", "chr2\t899\t900\n")
    path.write_bytes(text.encode())
    pysam.tabix_compress(str(path), str(packed := tmp_path / "in.vcf.gz"))
    pysam.tabix_index(str(packed), preset="vcf")
    contigs = read_tbi(tmp_path / "in.vcf.gz.tbi")
    path.write_bytes((text + end).encode())
    pysam.tabix_compress(str(path), str(packed), force=True)
    for stretches in contigs[b"chr2"].bins.values():
        stretches[-1] = packed.stat().st_size - len(EOF_BLOCK) << 16
    write_tbi(tmp_path / "in.vcf.gz.tbi", contigs, contigs.values())
    for selection in (Selection(regions="chr2:900"), Selection(regions_file=str(bed))):
        selected = staged(InputSource(packed, selection))
        assert selected.partition("\nchr")[2] == "2\t900\t.\tT\tTA\t1e+06\tPASS\t.\tGT\t0/1\t0/1\n"
        assert "\r" not in selected


@pytest.mark.parametrize("name", ["in.vcf.gz", "plain.vcf.gz", "in.bcf"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("chr1\t0\t9\nchr1\tx\t9\n", "line 2 is not a region"),
        ("chr1 0 9\n", "line 1 is not a region"),
        ("# none\n", "it has no region"),
    ],
)
@pytest.mark.parametrize("option", ["regions_file", "targets_file"])
def test_a_malformed_file_of_regions_is_wrong_usage_of_its_option(
    folder: Path, tmp_path: Path, name: str, text: str, reason: str, option: str
) -> None:
    bed = _written(tmp_path / "my.bed", text)
    with pytest.raises(InvalidUsage) as refused:
        staged(InputSource(folder / name, Selection(**{option: str(bed)})))
    assert str(refused.value).startswith(f"--{option.replace('_', '-')} {bed}: {reason}. Write")


def test_of_two_files_of_regions_the_malformed_one_is_named(folder: Path, tmp_path: Path) -> None:
    good, bad = _written(tmp_path / "good.bed", "chr1\t0\t9\n"), _written(tmp_path / "bad.bed", "chr1\n")
    for option, files in (("regions", (bad, good)), ("targets", (good, bad))):
        selection = Selection(regions_file=str(files[0]), targets_file=str(files[1]))
        with pytest.raises(InvalidUsage, match=f"^--{option}-file {bad}: line 1 is not a region"):
            staged(InputSource(folder / "in.vcf.gz", selection))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\tGT\t0/2\t1/2", "\tGT\t0/2", "Number of columns at chr1:102 does not match the number of samples"),
        ("\tS1\tS2", "\tS1\tS1", "Duplicated sample name 'S1'"),
    ],
)
def test_htslibs_telling_line_is_quoted_with_the_users_file_name(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = _written(tmp_path / "mine.vcf", TEXT.replace(old, new, 1))
    with pytest.raises(InvalidInput) as refused:
        staged(InputSource(path, Selection(pass_only=True)))
    assert f"bcftools cannot read {path}: {said}" in str(refused.value)
    pysam.tabix_compress(str(path), str(tmp_path / ".part.tmp"))
    with (tmp_path / "o.bcf").open("wb") as out, pytest.raises(InvalidInput) as refused:
        write_bcf(tmp_path / ".part.tmp", out, 6, "out.bcf")
    assert f"out.bcf cannot be written as BCF: {said}" in str(refused.value)
    assert ".part" not in str(refused.value)


def test_contigs_that_a_header_lacks_are_declared_in_a_bcf(tmp_path: Path) -> None:
    path = _written(tmp_path / "in.vcf", TEXT.replace("##contig=<ID=chr2,length=1000>\n", ""))
    with (tmp_path / "o.bcf").open("wb") as out:
        write_bcf(path, out, 6, "o.bcf", {"chr1": 999, "chr2": 1000, "chr3": 0})
    made = viewed(tmp_path / "o.bcf")
    header = [line for line in made.splitlines() if line.startswith("##contig")]
    lines = ["##contig=<ID=chr1,length=1000>", "##contig=<ID=chr2,length=1000>", "##contig=<ID=chr3>"]
    assert header == lines
    assert "chr2\t900" in made


def test_a_name_that_is_not_utf8_is_shown_escaped() -> None:
    assert InputSource(Path(os.fsdecode(b"/x/lat\xe9n.vcf"))).name == "lat\\xe9n.vcf"


def test_files_whose_names_are_not_utf8_are_read(folder: Path, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/lat\xe9n.vcf.gz"
    path, bed = Path(os.fsdecode(raw)), Path(os.fsdecode(raw.replace(b".vcf.gz", b".bed")))
    path.write_bytes((folder / "plain.vcf.gz").read_bytes())
    bed.write_text("chr1\t99\t100\n")
    for selection in (Selection(regions_file=str(bed)), Selection(targets_file=str(bed))):
        assert "chr1\t100\trs1" in staged(InputSource(path, selection))
    pysam.tabix_index(str(path), preset="vcf", force=True)
    assert "chr1\t100\trs1" in staged(InputSource(path, Selection(regions_file=str(bed))))
    bcf = Path(os.fsdecode(raw.replace(b".vcf.gz", b".bcf")))
    bcf.write_bytes((folder / "in.bcf").read_bytes())
    assert staged(InputSource(bcf)) == staged(InputSource(folder / "in.bcf"))


def test_a_bad_bcf_on_standard_input_ends_the_step_at_once(folder: Path) -> None:
    """Although its writer has not ended, and a thread waits for what may still come."""
    code = (
        "from anyvar_step.client.source import InputSource; from anyvar_step.errors import InvalidInput\n"
        "try:\n"
        " with InputSource(None).open() as raw: raw.read()\n"
        "except InvalidInput as error: print(error)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.buffer.write((folder / "in.bcf").read_bytes()[:200] + bytes(100_000))
        process.stdin.flush()
        assert "bcftools cannot read standard input" in process.stdout.read()
        assert process.wait(timeout=100) == 0


def annotated(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``anyvar-step annotate --local`` in that folder, over a reference of chr1 and chr2."""
    if not (folder / "ref.fa").exists():
        (folder / "ref.fa").write_text(">chr1\n" + "ACGT" * 250 + "\n>chr2\n" + "TTGA" * 250 + "\n")
    command = [sys.executable, "-m", "anyvar_step", "annotate", "--local", "--reference", "GRCh38=ref.fa"]
    return subprocess.run([*command, "--force", *arguments], capture_output=True, text=True, cwd=folder)


def test_the_command_ends_with_2_for_what_is_no_region(tmp_path: Path) -> None:
    _written(tmp_path / "in.vcf", TEXT)
    done = annotated(tmp_path, "in.vcf", "-o", "out.vcf", "-r", "chr1:foo")
    assert done.returncode == 2
    assert "--regions: 'chr1:foo' is not a region" in done.stderr
    assert not (tmp_path / "out.vcf").exists()


def test_a_vcf_without_contig_lines_becomes_a_bcf_and_its_text_gets_none(tmp_path: Path) -> None:
    bare = "\n".join(line for line in TEXT.splitlines() if not line.startswith("##contig")) + "\n"
    _written(tmp_path / "in.vcf", bare.replace("\nchr2\t", "\n2\t"))
    for name in ("out.bcf", "out.vcf"):
        done = annotated(tmp_path, "in.vcf", "-o", name)
        assert done.returncode == 0, done.stderr
    header = [line for line in viewed(tmp_path / "out.bcf").splitlines() if line.startswith("##contig")]
    assert header == ["##contig=<ID=chr1,length=1000>", "##contig=<ID=2,length=1000>"]
    assert (tmp_path / "out.bcf.csi").exists()
    assert "##contig" not in (tmp_path / "out.vcf").read_text(encoding="utf-8")
