"""Real VCFs through the whole step: VRS fields equal the reference implementation's, all else the input's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from support import SHARED_DATA, Site

from anyvar_step import __version__

NAMES = ("concat.3.b", "convert.gvcf", "gvcfz", "norm.symbolic", "split-vep")
VRS = "VRS_"

pytestmark = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"{SHARED_DATA} is not there")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, redis_url: str, genome: Path) -> Iterator[Site]:
    """A site whose worker has each file's own made-up reference as an assembly."""
    folder = tmp_path_factory.mktemp("real")
    references = {name: SHARED_DATA / "vcf" / f"{name}.fa" for name in NAMES}
    references["edge"] = SHARED_DATA / "edge" / "ref.fa"
    for name, fasta in references.items():
        (folder / f"{name}.fa").write_bytes(fasta.read_bytes())  # the index is written beside it
    site = Site(folder / "site", redis_url, genome)
    site.extra = {"ANYVAR_STEP_REFERENCE": ",".join(f"{n}={folder / n}.fa" for n in references)}
    with site.worker():
        yield site


def records(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


def split_info(info: str) -> tuple[str, dict[str, str]]:
    """INFO as it was, and the VRS fields."""
    items = info.split(";")
    fields = dict(item.partition("=")[::2] for item in items if item.startswith(VRS))
    return ";".join(item for item in items if not item.startswith(VRS)) or ".", fields


def annotated(site: Site, source: Path, assembly: str, tmp_path: Path, *options: str) -> str:
    out = tmp_path / "out.vcf"
    done = site.run("annotate", source, "-o", out, "--assembly", assembly, "--no-version", *options)
    assert done.returncode == 0, done.stderr
    return out.read_bytes().decode("latin-1")


def check_bytes(text: str, source: Path) -> None:
    before = source.read_bytes().decode("latin-1")
    kept = [line for line in text.splitlines() if not line.startswith("##INFO=<ID=VRS_")]
    for line, original in zip(kept, before.splitlines(), strict=True):
        columns = line.split("\t")
        if not line.startswith("#"):
            columns[7] = split_info(columns[7])[0]
        assert "\t".join(columns) == original


@pytest.mark.parametrize(
    ("answer", "options"), [("attrs", ("--attributes",)), ("ids", ("--no-for-ref",))], ids=["attrs", "ids"]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_real_vcf(real: Site, tmp_path: Path, name: str, answer: str, options: tuple[str, ...]) -> None:
    source = SHARED_DATA / "vcf" / f"{name}.in.vcf"
    text = annotated(real, source, name, tmp_path, *options)
    check_bytes(text, source)
    expected = records((SHARED_DATA / "vcf" / f"{name}.{answer}.vcf").read_text())
    for ours, theirs in zip(records(text), expected, strict=True):
        fields, answers = split_info(ours[7])[1], split_info(theirs[7])[1]
        if ours[4] == "." and answers.get("VRS_Allele_IDs") == "":
            answers = {}  # the reference implementation writes a field without a value there
        assert fields == answers, ours[:5]


@pytest.mark.parametrize(
    ("answer", "options"), [("edge_attrs", ("--attributes",)), ("edge_noref", ("--no-for-ref",))]
)
def test_the_header_lines_are_anyvars_but_for_the_programs_version(
    real: Site, tmp_path: Path, answer: str, options: tuple[str, ...]
) -> None:
    text = annotated(real, SHARED_DATA / "edge" / "edge_in.vcf", "edge", tmp_path, *options)
    theirs = (SHARED_DATA / "edge" / f"{answer}.vcf").read_text()
    theirs = theirs.replace("VRS-Python version=2.3.3", f"anyvar-step version={__version__}")
    ours, expected = (
        {line for line in header.splitlines() if line.startswith("##INFO=<ID=VRS_")}
        for header in (text, theirs)
    )
    assert ours == expected


@pytest.mark.parametrize(
    ("answer", "options"), [("edge_attrs", ("--attributes",)), ("edge_noref", ("--no-for-ref",))]
)
def test_each_edge_case(real: Site, tmp_path: Path, answer: str, options: tuple[str, ...]) -> None:
    source = SHARED_DATA / "edge" / "edge_in.vcf"
    text = annotated(real, source, "edge", tmp_path, *options)
    check_bytes(text, source)
    for ours, theirs in zip(
        records(text), records((SHARED_DATA / "edge" / f"{answer}.vcf").read_text()), strict=True
    ):
        fields, answers = split_info(ours[7])[1], split_info(theirs[7])[1]
        if ours[2] == "bnd":  # a breakend is no REF allele, whatever the reference implementation says
            assert fields["VRS_Allele_IDs"].endswith(".")
        elif "VRS_Error" in answers:
            message = unquote(fields.pop("VRS_Error"))
            assert message == answers["VRS_Error"].replace("GRCh38:", "edge:")
            assert not fields
        elif answers.get("VRS_Allele_IDs") == "":
            assert fields == {}
        else:
            assert fields == answers, ours[2]
