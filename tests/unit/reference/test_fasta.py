"""One contract for every reference, then what only files can get wrong: indexes, kept accessions, damage."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import Reference, for_assembly, open_reference
from anyvar_step.vcf.bgzf import compressed

rng = random.Random(7)
SEQUENCES = {
    "chr1": "".join(rng.choices("ACGTacgtN", k=200_003)),
    "2": "".join(rng.choices("ACGT", k=120)),
    "chrM": "acgtn",
    "HLA-A*01:01": "".join(rng.choices("ACGT", k=61)),
}


def accession_of(sequence: str) -> str:
    digest = hashlib.sha512(sequence.upper().encode()).digest()[:24]
    return "SQ." + base64.urlsafe_b64encode(digest).decode()


def write_fasta(path: Path, width: int = 60, end: str = "\n") -> Path:
    with path.open("w", newline="") as file:
        for name, sequence in SEQUENCES.items():
            lines = [sequence[i : i + width] for i in range(0, len(sequence), width)]
            file.write(f">{name} made up{end}{end.join(lines)}{end}")
    return path


class ReferenceContract:
    """What every reference promises; a subclass says how one is opened."""

    @pytest.fixture
    def reference(self, tmp_path: Path) -> Reference:
        raise NotImplementedError

    def test_contigs_come_in_the_order_of_the_file_with_their_accessions(self, reference: Reference) -> None:
        found = [(contig.name, contig.length, contig.accession) for contig in reference.contigs()]
        assert found == [(name, len(text), accession_of(text)) for name, text in SEQUENCES.items()]

    def test_any_interval_is_the_upper_case_slice(self, reference: Reference) -> None:
        chance = random.Random(1)
        for name, text in SEQUENCES.items():
            contig = reference.contig(name)
            assert contig
            for _ in range(300):
                start = chance.randrange(len(text))
                end = start + chance.choice([0, 1, 2, 59, 60, 61, 500, 70_000])
                assert contig.fetch(start, end) == text[start:end].upper().encode()
            assert contig.fetch(0, len(text)) == text.upper().encode()

    def test_what_lies_outside_is_empty_or_cut_off(self, reference: Reference) -> None:
        contig = reference.contig("2")
        assert contig
        assert contig.fetch(-1, 5) == b""
        assert contig.fetch(120, 121) == b""
        assert contig.fetch(2**62, 2**62 + 1) == b""
        assert contig.fetch(5, 5) == contig.fetch(6, 5) == b""
        assert contig.fetch(118, 2**62) == SEQUENCES["2"][118:].encode()

    @pytest.mark.parametrize(
        ("name", "own"),
        [("1", "chr1"), ("chr2", "2"), ("M", "chrM"), ("MT", "chrM"), ("chrMT", "chrM"), ("chrX", None)],
    )
    def test_contigs_are_found_with_and_without_chr(
        self, reference: Reference, name: str, own: str | None
    ) -> None:
        contig = reference.contig(name)
        assert (contig and contig.name) == own

    def test_it_remembers_its_assembly(self, reference: Reference) -> None:
        assert reference.assembly == "GRCh38"


class TestPlainFasta(ReferenceContract):
    @pytest.fixture(params=[(60, "\n"), (61, "\r\n"), (10**6, "\n")], ids=["lines", "crlf", "one-line"])
    def reference(self, tmp_path: Path, request: pytest.FixtureRequest) -> Reference:
        return open_reference("GRCh38", write_fasta(tmp_path / "ref.fa", *request.param))


class TestBgzippedFasta(ReferenceContract):
    @pytest.fixture
    def reference(self, tmp_path: Path) -> Reference:
        return open_reference("GRCh38", bgzipped(tmp_path))

    def test_forked_processes_read_on_without_disturbing_each_other(self, reference: Reference) -> None:
        contig = reference.contig("chr1")
        assert contig
        contig.fetch(0, 10)
        child = os.fork()
        if child == 0:
            right = all(
                contig.fetch(i, i + 9) == SEQUENCES["chr1"][i : i + 9].upper().encode()
                for i in range(0, 190_000, 997)
            )
            os._exit(0 if right else 1)
        for i in range(190_000, 0, -997):
            assert contig.fetch(i, i + 9) == SEQUENCES["chr1"][i : i + 9].upper().encode()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def bgzipped(folder: Path) -> Path:
    plain, path = write_fasta(folder / "plain.fa"), folder / "ref.fa.gz"
    pysam.tabix_compress(str(plain), str(path))
    plain.unlink()
    return path


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "ref.fa")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    return tmp_path / "cache" / "anyvar-step"


def test_what_is_prepared_lies_beside_the_fasta_and_no_draft_is_left(fasta: Path) -> None:
    open_reference("GRCh38", fasta).close()
    names = {path.name for path in fasta.parent.iterdir()}
    assert names == {"ref.fa", "ref.fa.fai", "ref.fa.refget.json"}


def test_what_is_prepared_through_a_link_belongs_to_the_file(fasta: Path, tmp_path: Path) -> None:
    link = tmp_path / "task" / "genome.fa"
    link.parent.mkdir()
    link.symlink_to(fasta)
    open_reference("GRCh38", link).close()
    assert [path.name for path in link.parent.iterdir()] == ["genome.fa"]
    assert fasta.with_name("ref.fa.fai").exists()


def test_a_folder_that_cannot_be_written_sends_the_files_to_the_users_cache(fasta: Path, cache: Path) -> None:
    for suffix in (".fai", ".refget.json"):
        fasta.with_name("ref.fa" + suffix).mkdir()  # even root cannot rename a file onto a folder
    open_reference("GRCh38", fasta).close()
    assert sorted(path.suffix for path in cache.iterdir()) == [".fai", ".json"]
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    open_reference("GRCh38", fasta).close()
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_kept_accessions_are_used_and_those_of_another_file_are_not(fasta: Path) -> None:
    open_reference("GRCh38", fasta).close()
    kept = fasta.with_name("ref.fa.refget.json")
    content = json.loads(kept.read_text())
    mark = "SQ." + "x" * 32
    content["sequences"]["2"]["accession"] = mark
    kept.write_text(json.dumps(content))
    assert open_reference("GRCh38", fasta).contigs()[1].accession == mark
    for key, value in (("size", 1), ("mtime_ns", 1), ("sequences", {}), ("sequences", 3)):
        kept.write_text(json.dumps({**content, key: value}))
        assert open_reference("GRCh38", fasta).contigs()[1].accession == accession_of(SEQUENCES["2"])
    kept.write_text("{")
    assert open_reference("GRCh38", fasta).contigs()[1].accession == accession_of(SEQUENCES["2"])


def test_a_changed_fasta_is_indexed_and_read_again(fasta: Path) -> None:
    open_reference("GRCh38", fasta).close()
    sequence = "GATTACA"
    fasta.write_text(f">chr9\n{sequence}\n")
    later = fasta.with_name("ref.fa.fai").stat().st_mtime + 5
    os.utime(fasta, (later, later))
    os.utime(fasta.with_name("ref.fa.fai"), (later - 5, later - 5))
    (contig,) = open_reference("GRCh38", fasta).contigs()
    assert (contig.name, contig.accession) == ("chr9", accession_of(sequence))


def spoil_columns(row: int, **changes: int) -> object:
    """Add to columns of one row of a .fai."""
    names = ["name", "length", "offset", "bases", "width"]

    def spoil(text: str) -> str:
        rows = [line.split("\t") for line in text.splitlines()]
        for name, change in changes.items():
            column = names.index(name)
            rows[row][column] = str(int(rows[row][column]) + change)
        return "\n".join("\t".join(cells) for cells in rows) + "\n"

    return spoil


@pytest.mark.parametrize("known", [True, False], ids=["accessions kept", "accessions to compute"])
@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "bgzipped"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda _: "chr1\t5\n",
        lambda text: text.replace("chr1", "chr7"),
        lambda text: text + text,
        lambda text: text.replace("\t60\t61", "\tx\t61"),
        spoil_columns(0, offset=-1),
        spoil_columns(0, offset=1),
        spoil_columns(0, offset=10**9),
        spoil_columns(0, length=1),
        spoil_columns(0, length=-60),
        spoil_columns(0, length=10**9),
        spoil_columns(1, length=-200),
        spoil_columns(0, bases=1, width=1),
        spoil_columns(0, bases=60, width=60),
        spoil_columns(0, width=1),
        spoil_columns(0, bases=-60, width=-61),
    ],
)
def test_an_index_that_is_not_the_fastas_is_refused(
    tmp_path: Path, spoil: object, blocked: bool, known: bool
) -> None:
    fasta = bgzipped(tmp_path) if blocked else write_fasta(tmp_path / "ref.fa")
    open_reference("GRCh38", fasta).close()
    index = fasta.with_name(fasta.name + ".fai")
    assert callable(spoil)
    index.write_text(spoil(index.read_text()))
    if not known:
        fasta.with_name(fasta.name + ".refget.json").unlink()
    with pytest.raises(ConfigurationError, match="built anew"):
        open_reference("GRCh38", fasta)


def test_lines_of_different_length_are_found_when_the_accessions_are_computed(tmp_path: Path) -> None:
    """The borders fit, and the number of bases too: only the line ends in the middle do not."""
    fasta = tmp_path / "ref.fa"
    fasta.write_text(">c\nACGTACGT\nACG\nACGTACGTACGTA\nACGTACGT\n")
    fasta.with_name("ref.fa.fai").write_text("c\t32\t3\t8\t9\n")
    with pytest.raises(ConfigurationError, match="differ in length"):
        open_reference("GRCh38", fasta)


def test_a_damaged_block_or_block_index_is_refused(tmp_path: Path) -> None:
    fasta = bgzipped(tmp_path)
    open_reference("GRCh38", fasta).close()
    gzi = fasta.with_name("ref.fa.gz.gzi")
    whole = gzi.read_bytes()
    kept = fasta.with_name("ref.fa.gz.refget.json")
    moved = bytearray(whole)
    moved[16] ^= 1  # the uncompressed offset of the second block
    for spoiled in (whole[:-3], bytes(moved), whole[:8] + bytes(len(whole) - 8)):
        gzi.write_bytes(spoiled)
        kept.unlink(missing_ok=True)
        with pytest.raises(ConfigurationError):
            open_reference("GRCh38", fasta)
    gzi.write_bytes(whole)
    data = bytearray(fasta.read_bytes())
    data[1000] ^= 255
    fasta.write_bytes(data)
    os.utime(gzi)
    os.utime(fasta.with_name("ref.fa.gz.fai"))
    with pytest.raises(ConfigurationError, match="is damaged"):
        open_reference("GRCh38", fasta)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a FASTA"),
        (b"##fileformat=VCFv4.2\n", "not a FASTA"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "bgzip"),
        (b">a\nACG\nACGTT\nA\n", "same number of bases"),
        (b">a\n", "names no sequence|cannot be indexed"),
        (compressed(b">a\n" + b"ACGT" * 500)[:-9], "truncated or damaged.*bgzip -t"),
    ],
)
def test_a_file_that_cannot_serve_as_reference_is_refused_with_a_remedy(
    tmp_path: Path, content: bytes, words: str
) -> None:
    fasta = tmp_path / "ref.fa"
    fasta.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        open_reference("GRCh38", fasta)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.fa cannot be read"):
        open_reference("GRCh38", tmp_path / "absent.fa")


def test_an_assembly_without_fasta_names_the_setting_and_the_other_name(fasta: Path) -> None:
    with pytest.raises(ConfigurationError, match="ANYVAR_STEP_REFERENCE"):
        for_assembly({}, "GRCh38")
    with pytest.raises(ConfigurationError, match=r"hg38 is another name of GRCh38.*known: GRCh38"):
        for_assembly({"GRCh38": fasta}, "hg38")
    with pytest.raises(ConfigurationError, match=r"for assembly GRCh38; known: demo"):
        for_assembly({"demo": fasta}, "GRCh38")
    assert for_assembly({"GRCh38": fasta}, "GRCh38").assembly == "GRCh38"


def test_many_processes_that_start_at_once_all_get_the_same_answer(fasta: Path) -> None:
    command = [sys.executable, "-m", "anyvar_step", "reference", str(fasta)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    answers = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0] * 5
    rows = [f"{name}\t{len(text)}\t{accession_of(text)}\n" for name, text in SEQUENCES.items()]
    assert answers == {"".join(rows)}
    assert {path.name for path in fasta.parent.iterdir()} == {"ref.fa", "ref.fa.fai", "ref.fa.refget.json"}


def test_the_command_lists_json_and_ends_with_78_for_what_is_no_fasta(fasta: Path) -> None:
    command = [sys.executable, "-m", "anyvar_step", "reference", "--json", "--assembly", "T2T"]
    listed = subprocess.run([*command, str(fasta)], capture_output=True, text=True, check=True)
    answer = json.loads(listed.stdout)
    assert answer["assembly"] == "T2T"
    assert [row["name"] for row in answer["sequences"]] == list(SEQUENCES)
    refused = subprocess.run([*command, "/dev/null"], capture_output=True, text=True, check=False)
    assert refused.returncode == 78
    assert refused.stderr.count("\n") == 1


def private_memory() -> int:
    """Bytes that are this process's alone (USS)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_what_was_read_of_a_fasta_is_not_kept_as_the_workers_own_memory(tmp_path):
    fasta = tmp_path / "large.fa"
    fasta.write_text(">chr1\n" + ("ACGT" * 15 + "\n") * 550_000)  # 32 MB
    before = private_memory()
    reference = open_reference("GRCh38", fasta)  # reads all of it for its accession
    contig = reference.contig("chr1")
    for start in range(0, contig.length, 4096):
        contig.fetch(start, start + 1)
    assert private_memory() - before < 16 << 20
    reference.close()


TRUNCATED = """
import os, sys
from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import open_reference
reference = open_reference("GRCh38", sys.argv[1])
contig = reference.contig("chr1")
contig.fetch(0, 10)
os.truncate(sys.argv[1], 50_000)
try:
    for start in range(0, contig.length, 1000):
        contig.fetch(start, start + 10)
except ConfigurationError as error:
    print(error)
assert not reference.is_current()
"""


@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "bgzipped"])
def test_a_fasta_that_is_cut_short_while_it_is_read_is_an_error_that_names_it(
    tmp_path: Path, blocked: bool
) -> None:
    """Reading a map of such a file would end the process by SIGBUS."""
    fasta = bgzipped(tmp_path) if blocked else write_fasta(tmp_path / "ref.fa")
    done = subprocess.run([sys.executable, "-c", TRUNCATED, fasta], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"the FASTA {fasta} was changed while it was in use" in done.stdout


def test_a_fasta_that_another_one_has_replaced_is_not_current(fasta: Path) -> None:
    reference = open_reference("GRCh38", fasta)
    assert reference.is_current()
    write_fasta(fasta.with_name("new.fa")).rename(fasta)
    assert not reference.is_current()
    contig = reference.contig("chr1")
    assert contig.fetch(150_000, 150_010) == SEQUENCES["chr1"][150_000:150_010].upper().encode()


@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "bgzipped"])
@pytest.mark.parametrize("indexed", [False, True], ids=["indexed here", "indexed before"])
@pytest.mark.parametrize(
    "text",
    [">a x\nACGT\n>b\nACG\n>a y\nACGA\n", ">a\nACGT\n>a\nACGT\n>b\nA\n", ">b\nA\n>a\nACGT\n>a\nAC"],
)
def test_two_sequences_of_one_name_are_refused(
    tmp_path: Path, text: str, indexed: bool, blocked: bool
) -> None:
    fasta = tmp_path / "ref.fa"
    fasta.write_text(text)
    if blocked:
        pysam.tabix_compress(str(fasta), f"{fasta}.gz")
        fasta = fasta.with_name("ref.fa.gz")
    if indexed:
        pysam.faidx(str(fasta))
    with pytest.raises(ConfigurationError, match=r"ref.fa(.gz)? has two sequences named a\. Rename"):
        open_reference("GRCh38", fasta)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2), (1,)], ids=str)
def test_an_index_may_list_the_sequences_in_any_order_and_leave_some_out(
    fasta: Path, order: tuple[int, ...]
) -> None:
    open_reference("GRCh38", fasta).close()
    index = fasta.with_name("ref.fa.fai")
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[number] for number in order))
    names = [list(SEQUENCES)[number] for number in order]
    assert [contig.name for contig in open_reference("GRCh38", fasta).contigs()] == names


def test_header_lines_may_be_long(tmp_path: Path) -> None:
    fasta = tmp_path / "ref.fa"
    fasta.write_text(f">a {'x' * 40_000}\nACGT\n>b {'y' * 600}\nAC\n>c\nA\n")
    assert [contig.name for contig in open_reference("GRCh38", fasta).contigs()] == ["a", "b", "c"]


def test_a_sequence_without_bases_is_left_out(tmp_path: Path) -> None:
    fasta = tmp_path / "ref.fa"
    fasta.write_text(">none\n>a\nACGT\n>empty\n>b\nA\n")
    assert [contig.name for contig in open_reference("GRCh38", fasta).contigs()] == ["a", "b"]


@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "bgzipped"])
def test_a_fasta_whose_name_is_not_utf8_is_a_reference(tmp_path: Path, blocked: bool) -> None:
    made = bgzipped(tmp_path) if blocked else write_fasta(tmp_path / "ref.fa")
    fasta = made.rename(tmp_path / os.fsdecode(b"r\xe9f" + os.fsencode(made.suffix)))
    contig = open_reference("GRCh38", fasta).contig("2")
    assert contig.accession == accession_of(SEQUENCES["2"])
