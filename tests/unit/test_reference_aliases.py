"""Names of contigs beyond the FASTA's own: habits and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyvar_step.errors import ConfigurationError
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
    names = ContigAliases([own, "chrM"], table(tmp_path, text))
    for name in ("NC_000001.11", "CM000663.2", "chr1", "1"):
        assert names.resolve(name) == own
    assert names.resolve("NC_000002.12") is None


def test_words_that_rows_share_are_no_names(tmp_path: Path) -> None:
    names = ContigAliases(["chr1_U_random", "chrM"], table(tmp_path, REPORT))
    assert names.resolve("KI270706.1") == "chr1_U_random"
    for word in ("1", "Chromosome", "Primary Assembly", "=", "chr1"):
        assert names.resolve(word) is None


def test_a_name_that_two_contigs_share_leads_nowhere(tmp_path: Path) -> None:
    names = ContigAliases(["a", "b"], table(tmp_path, "a\tsame\tx\nb\tsame\ty\n"))
    assert names.resolve("same") is None
    assert names.resolve("x") == "a"


def test_a_contigs_own_name_goes_before_every_alias(tmp_path: Path) -> None:
    names = ContigAliases(["1", "chr1"], table(tmp_path, "1\tone\nchr1\tchr-one\n"))
    assert [names.resolve(name) for name in ("1", "chr1", "one", "chr-one")] == ["1", "chr1", "1", "chr1"]


@pytest.mark.parametrize("text", ["", "x\ty\n"])
def test_a_table_that_names_none_of_the_contigs_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="no further name"):
        ContigAliases(["chr1"], table(tmp_path, text))


def test_a_table_that_is_absent_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ANYVAR_STEP_REFERENCE_ALIASES"):
        ContigAliases(["chr1"], tmp_path / "absent")
