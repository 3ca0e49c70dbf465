"""Every VCF and BCF in the sources of bcftools and htslib: annotated, and compared with ga4gh.vrs.

The sources come from Debian, by apt-get with a list of its own; the system's stays as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import vrs_oracle
from corpus import SparseReference, bcftools_reads, find, split_lines
from support import skip

from anyvar_step.errors import InvalidInput
from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.pipeline.assembly import AssemblyCheck

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

PACKAGES = ("bcftools", "htslib")
#: htslib's own words for what no htslib program can write back.
UNWRITABLE = ("Invalid argument", "unable to parse next record", "invalid tag", "too small/large to store")


@dataclass
class Answer:
    """What became of one file; ``problem`` is why we refused it, ``oracle`` what the reference one said."""

    path: Path
    problem: str = ""
    before: list[bytes] = field(default_factory=list)
    after: list[bytes] = field(default_factory=list)
    accepted: bool = True
    oracle: str = ""
    theirs: list[bytes] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Columns of each record before and after."""
        old, new = map(records, (self.before, self.after))
        assert len(old) == len(new), self.path
        for one, other in zip(old, new, strict=True):
            yield one.split(b"\t"), other.split(b"\t")


def records(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if line and not line.startswith(b"#")]


def not_ours(info: bytes) -> bytes:
    return b";".join(item for item in info.split(b";") if not item.startswith(b"VRS_")) or b"."


def sources(folder: Path) -> None:
    """Fetch and unpack the sources of the packages. Raises CalledProcessError where apt-get cannot."""
    lists, parts = folder / "lists", folder / "parts"
    for made in (lists / "partial", parts):
        made.mkdir(parents=True)
    system = Path("/etc/apt")
    for path in [system / "sources.list", *sorted((system / "sources.list.d").glob("*.*"))]:
        if path.suffix == ".sources" and path.is_file():
            (parts / path.name).write_text(path.read_text().replace("Types: deb\n", "Types: deb-src\n"))
        elif path.suffix == ".list" and path.is_file():
            text = path.read_text().splitlines()
            wanted = ["deb-src " + line.removeprefix("deb ") for line in text if line.startswith("deb ")]
            (parts / path.name).write_text("\n".join([*wanted, ""]))
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": parts,
        "Dir::State::Lists": lists,
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *[word for name, value in options.items() for word in ("-o", f"{name}={value}")]]
    subprocess.run([*apt, "update"], check=True, timeout=200, capture_output=True)
    fetch = [*apt, "source", "--download-only", *PACKAGES]
    subprocess.run(fetch, check=True, timeout=200, capture_output=True, cwd=folder)
    for archive in folder.glob("*.orig.tar.*"):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sources")
    try:
        if not shutil.which("bcftools"):
            raise FileNotFoundError("bcftools")
        sources(folder)
    except (OSError, subprocess.SubprocessError) as error:
        skip(
            "NOT TESTED OVER THE VCFS OF OTHERS",
            f"the sources of {' and '.join(PACKAGES)} cannot be had here: {error}",
        )
    return find(folder)


@pytest.fixture(scope="module")
def answers(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    """Of each file that bcftools reads."""
    folder = tmp_path_factory.mktemp("answers")
    with vrs_oracle.running() as oracle:
        return [_answer(path, folder, oracle) for path in files if bcftools_reads(path)]


def _answer(path: Path, folder: Path, oracle: vrs_oracle.Oracle) -> Answer:
    answer = Answer(path, before=split_lines(path))
    reference = SparseReference(answer.before)
    out = folder / "ours.vcf"
    try:
        check = AssemblyCheck(reference.assembly, path.name, force=True)
        annotate_file(path, out, reference, AnnotateOptions(add_vrs_attributes=True), check=check)
    except InvalidInput as problem:
        answer.problem = str(problem)
        return answer
    answer.after = split_lines(out)
    answer.accepted = bcftools_reads(out)
    theirs, known = folder / "theirs.vcf", reference.write(folder / "reference.json")
    answer.oracle = oracle.ask(str(known), path, theirs, "--for-ref", "--attributes")
    if answer.oracle == "ok":
        answer.theirs = vrs_oracle.records(theirs)
    return answer


def test_each_file_that_bcftools_reads_is_annotated(answers: list[Answer]) -> None:
    assert len(answers) > 700
    assert [f"{answer.path.name}: {answer.problem}" for answer in answers if answer.problem] == []


def test_nothing_but_info_is_changed(answers: list[Answer]) -> None:
    for answer in answers:
        for before, after in answer.pairs():
            assert before[:7] + before[8:] == after[:7] + after[8:], answer.path
            # Where INFO ends with a semicolon, that one stands before our fields.
            assert not_ours(before[7]).rstrip(b";") == not_ours(after[7]).rstrip(b";"), answer.path
        old, new = (
            [line for line in lines if line.startswith(b"#") and not line.startswith(b"##INFO=<ID=VRS_")]
            for lines in (answer.before, answer.after)
        )
        assert old == [line for line in new if not line.startswith(b"##anyvar_step")], answer.path


def test_bcftools_reads_every_output(answers: list[Answer]) -> None:
    assert [answer.path for answer in answers if not answer.accepted] == []


def test_the_fields_are_those_of_the_reference_implementation_where_it_answers(answers: list[Answer]) -> None:
    """It does not understand contig names with a dash: there its fields are dots."""
    compared = 0
    for answer in answers:
        if answer.oracle != "ok":
            continue
        for (before, after), theirs in zip(answer.pairs(), answer.theirs, strict=True):
            ours = vrs_oracle.unescaped(vrs_oracle.vrs_fields(b"\t".join(after)))
            expected = vrs_oracle.expected(theirs, b"\t".join(before), for_ref=True)
            if b"-" in before[0]:
                assert {*expected.get(b"VRS_Allele_IDs", b".")} <= {*b".,"}, answer.path
                continue
            assert ours == expected, f"{answer.path}: {before[:5]}"
            compared += 1
    assert compared > 10_000


def test_where_the_reference_implementation_fails_there_are_ids_all_the_same(answers: list[Answer]) -> None:
    """htslib cannot write back a record whose contig, filter or field the header does not declare."""
    failed = [answer for answer in answers if answer.oracle != "ok"]
    assert 40 < len(failed) < 80
    for answer in failed:
        assert any(words in answer.oracle for words in UNWRITABLE) or "samples" in answer.oracle
        assert any(b"ga4gh:VA." in after[7] for _, after in answer.pairs()), answer.path
