"""Names of contigs beyond the FASTA's own: habits and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import aliases
from anyvar_step.reference.aliases import ContigAliases

REPORT = """# Assembly name:  made after GRCh38.p14
# Sequence-Name|Sequence-Role|Assigned-Molecule|Assigned-Molecule-Location/Type|GenBank-Accn|Relationship|\
RefSeq-Accn|Assembly-Unit|Sequence-Length|UCSC-style-name
1|assembled-molecule|1|Chromosome|CM000663.2|=|NC_000001.11|Primary Assembly|248956422|chr1
HSCHR1_U|unlocalized-scaffold|1|Chromosome|KI270706.1|=|NT_187361.1|Primary Assembly|175055|chr1_U_random
MT|assembled-molecule|MT|Mitochondrion|J01415.2|=|NC_012920.1|non-nuclear|16569|chrM
""".replace("|", "\t")
UCSC = (
    "# ucsc\tassembly\tgenbank\trefseq\nchr1\t1\tCM000663.2\tNC_000001.11\nchrM\tMT\tJ01415.2\tNC_012920.1\n"
)
OLD_UCSC = "#alias\tchrom\tsource\nCM000663.2\tchr1\tgenbank\nNC_000001.11\tchr1\trefseq\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "aliases.tsv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "own"), [(REPORT, "chr1"), (REPORT, "1"), (UCSC, "chr1"), (UCSC, "1"), (OLD_UCSC, "chr1")]
)
def test_accessions_of_a_table_lead_to_the_contig(tmp_path: Path, text: str, own: str) -> None:
    names = ContigAliases(dict.fromkeys([own, "chrM"], 1000), table(tmp_path, text))
    for name in ("NC_000001.11", "CM000663.2", "chr1", "1"):
        assert names.resolve(name) == own
    assert names.resolve("NC_000002.12") is None


def test_words_that_rows_share_are_no_names(tmp_path: Path) -> None:
    names = ContigAliases(dict.fromkeys(["chr1_U_random", "chrM"], 1000), table(tmp_path, REPORT))
    assert names.resolve("KI270706.1") == "chr1_U_random"
    for word in ("1", "Chromosome", "Primary Assembly", "=", "chr1"):
        assert names.resolve(word) is None


def test_a_name_that_two_contigs_share_leads_nowhere(tmp_path: Path) -> None:
    names = ContigAliases(dict.fromkeys(["a", "b"], 1000), table(tmp_path, "a\tsame\tx\nb\tsame\ty\n"))
    assert names.resolve("same") is None
    assert names.resolve("x") == "a"


def test_a_contigs_own_name_goes_before_every_alias(tmp_path: Path) -> None:
    names = ContigAliases(dict.fromkeys(["1", "chr1"], 1000), table(tmp_path, "1\tone\nchr1\tchr-one\n"))
    assert [names.resolve(name) for name in ("1", "chr1", "one", "chr-one")] == ["1", "chr1", "1", "chr1"]


@pytest.mark.parametrize("text", ["", "x\ty\n"])
def test_a_table_that_names_none_of_the_contigs_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="no further name"):
        ContigAliases(dict.fromkeys(["chr1"], 1000), table(tmp_path, text))


def test_a_table_that_is_absent_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ANYVAR_STEP_REFERENCE_ALIASES"):
        ContigAliases(dict.fromkeys(["chr1"], 1000), tmp_path / "absent")


GRCH38 = {"1": 248956422, "chr1": 248956422, "NC_000001.11": 248956422, "CM000663.2": 248956422}
UNLOCALIZED = ("HSCHR1_CTG1_UNLOCALIZED", "KI270706.1", "NT_187361.1", "chr1_KI270706v1_random")


@pytest.mark.parametrize("own", GRCH38)
def test_refseq_genbank_and_ucsc_names_are_known_without_a_table(own: str) -> None:
    for odd in UNLOCALIZED:
        names = ContigAliases({own: GRCH38[own], odd: 175055, "decoy": 5})
        assert {names.resolve(name) for name in GRCH38} == {own}
        assert {names.resolve(name) for name in UNLOCALIZED} == {odd}
        assert names.resolve("NC_000001.10") is None  # GRCh37's


@pytest.mark.parametrize(
    ("bases", "name"),
    [
        (249250621, "NC_000001.10"),
        (249250621, "CM000663.1"),
        (248387328, "NC_060925.1"),
        (248387328, "CP068277.2"),
        (248956422, "CM000663.2"),
    ],
)
def test_a_name_leads_to_a_contig_of_its_length_only(bases: int, name: str) -> None:
    for length in (bases, bases - 1, 1000):
        assert ContigAliases({"chr1": length}).resolve(name) == ("chr1" if length == bases else None)


def test_alternate_contigs_and_patches_are_known() -> None:
    names = ContigAliases({"chr1": 248956422, "chr10_KI270825v1_alt": 188315, "KI270706.1": 175055})
    assert names.resolve("HSCHR10_1_CTG4") == names.resolve("KI270825.1") == "chr10_KI270825v1_alt"
    assert names.resolve("chr1_KI270706v1_random") == "KI270706.1"
    b37 = ContigAliases({"1": 249250621, "GL000191.1": 106433})
    assert b37.resolve("chr1_gl000191_random") == b37.resolve("NT_113878.1") == "GL000191.1"


def test_mitochondria_of_one_length_are_told_apart_by_their_assembly() -> None:
    """GRCh38's and CHM13's chrM both have 16,569 bases, and differ."""
    names = ContigAliases({"chr1": 248956422, "chrM": 16569})
    assert names.resolve("NC_012920.1") == names.resolve("J01415.2") == names.resolve("MT") == "chrM"
    assert names.resolve("CP068254.1") is None
    assert ContigAliases({"chr1": 248387328, "chrM": 16569}).resolve("CP068254.1") == "chrM"
    assert ContigAliases({"chrM": 16569}).resolve("NC_012920.1") is None  # whose it is nothing tells


def test_the_older_mitochondrion_of_hg19_is_nobody_elses_mt() -> None:
    hg19 = ContigAliases({"chr1": 249250621, "chrM": 16571})
    assert (hg19.resolve("MT"), hg19.resolve("M"), hg19.resolve("NC_012920.1")) == (None, "chrM", None)
    both = ContigAliases({"chr1": 249250621, "chrM": 16571, "chrMT": 16569})
    assert (both.resolve("MT"), both.resolve("M")) == ("chrMT", "chrM")


def test_the_names_of_assemblies_are_read_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "files", None)
    names = ContigAliases({"chr1": 248956422, "chrM": 16569})
    assert [names.resolve(name) for name in ("chr1", "1", "MT")] == ["chr1", "chr1", "chrM"]


def test_no_name_means_two_sequences_of_one_assembly() -> None:
    """Each row of the package's file has an assembly, a length and names that no other row of it has."""
    text = Path(aliases.__file__).with_name("assemblies.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert {row[0] for row in rows} == {"GRCh37.p13", "GRCh38.p14", "T2T-CHM13v2.0"}
    assert len(rows) > 1000
    named = [(assembly, name) for assembly, _, *names in rows for name in names]
    assert len(named) == len(set(named))
