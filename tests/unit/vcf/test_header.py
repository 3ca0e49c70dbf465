"""An annotation on top of another, and what the header says of both."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_reference import MemoryReference

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.client.deliver import Target, deliver
from anyvar_step.client.transport import Fetched
from anyvar_step.errors import ConfigurationError, CorruptFile, InvalidInput
from anyvar_step.models import AnnotateOptions, Manifest, RunReport
from anyvar_step.pipeline import Outcome, annotate_file
from anyvar_step.vcf.header import with_provenance

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
#: As ga4gh.vrs 2.1 had it: another version, and a record that its program could not name.
OLD = (
    "##fileformat=VCFv4.2\n"
    '##INFO=<ID=VRS_Allele_IDs,Number=R,Type=String,Description="ids [VRS version=2.0]">\n'
    "##anyvar_stepVersion=0.0.1+vrs-2.0\n"
    "##anyvar_stepCommand=annotate --assembly GRCh37\n"
    f"{COLUMNS}"
    "chr1\t2\told\tC\tT\t.\t.\tA=1;VRS_Allele_IDs=ga4gh:VA.a,ga4gh:VA.b;B\n"
    "chr1\t3\tfailed\tG\tT\t.\t.\tVRS_Error=no%20luck\n"
    "chr1\t4\tnew\tT\tC\t.\t.\tMYVRS_x=1;VRS_Other=2\n"
)
COMMAND = "annotate --assembly GRCh38"
OURS = [f"##anyvar_stepVersion={__version__}+vrs-{VRS_VERSION}", f"##anyvar_stepCommand={COMMAND}"]


def annotated(folder: Path, text: str, **asked: object) -> tuple[list[str], list[str], Outcome]:
    """Header lines, INFO columns and the outcome."""
    (folder / "in.vcf").write_text(text)
    options = AnnotateOptions(for_ref=bool(asked.pop("for_ref", True)))
    reference = MemoryReference(chr1=b"ACGTACGT")
    outcome = annotate_file(folder / "in.vcf", folder / "out", reference, options, **asked)  # type: ignore[arg-type]
    lines = (folder / "out").read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    return header, [line.split("\t")[7] for line in lines[len(header) :]], outcome


def test_older_vrs_fields_are_replaced_with_what_the_header_says_of_them(tmp_path: Path) -> None:
    header, infos, outcome = annotated(tmp_path, OLD, command=COMMAND)
    assert [line for line in header if line.startswith("##anyvar")] == OURS
    assert sum("ID=VRS_Allele_IDs" in line for line in header) == 1
    assert not any("VRS version=2.0]" in line for line in header)
    assert infos[0].startswith("A=1;B;VRS_Allele_IDs=ga4gh:VA.")
    assert infos[1].startswith("VRS_Allele_IDs=ga4gh:VA.")
    assert infos[2].startswith("MYVRS_x=1;VRS_Other=2;VRS_Allele_IDs=ga4gh:VA.")
    assert (outcome.counts.ids, outcome.counts.kept) == (6, 0)


def test_annotating_twice_is_annotating_once(tmp_path: Path) -> None:
    annotated(tmp_path, OLD, command=COMMAND)
    once = (tmp_path / "out").read_text()
    annotated(tmp_path, once, command=COMMAND)
    assert (tmp_path / "out").read_text() == once


def test_older_vrs_fields_can_be_kept_byte_for_byte(tmp_path: Path) -> None:
    header, infos, outcome = annotated(tmp_path, OLD, existing="keep", command=COMMAND)
    before = OLD.splitlines()
    assert header[:4] == before[:4]
    assert header[-3:-1] == OURS
    assert sum("ID=VRS_Allele_IDs" in line for line in header) == 1
    assert sum("ID=VRS_Error" in line for line in header) == 1
    assert infos[:2] == [line.split("\t")[7] for line in before[5:7]]
    assert infos[2].startswith("MYVRS_x=1;VRS_Other=2;VRS_Allele_IDs=ga4gh:VA.")
    assert (outcome.counts.records, outcome.counts.kept, outcome.counts.ids) == (3, 2, 2)
    assert "in.vcf has 2 of 3 records whose VRS fields were kept" in outcome.notes


def test_fields_of_another_number_cannot_be_kept_beside_new_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not of Number=A"):
        annotated(tmp_path, OLD, existing="keep", for_ref=False)


def test_older_vrs_fields_can_be_an_error_by_header_or_by_record(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"in\.vcf has been annotated already.*VRS_Allele_IDs.*--existing"):
        annotated(tmp_path, OLD, existing="error")
    undeclared = "".join(line for line in OLD.splitlines(keepends=True) if "ID=VRS" not in line)
    with pytest.raises(InvalidInput, match=r"in\.vcf line 5: it has VRS fields already\. Use --existing"):
        annotated(tmp_path, undeclared, existing="error")
    assert not (tmp_path / "out").exists()
    fresh = "".join(line for line in undeclared.splitlines(keepends=True) if "VRS_A" not in line)
    _, infos, _ = annotated(tmp_path, fresh.replace("VRS_Error=no%20luck", "."), existing="error")
    assert len(infos) == 2


def test_no_command_leaves_the_header_without_provenance(tmp_path: Path) -> None:
    header, _, _ = annotated(tmp_path, OLD)
    assert not any(line.startswith("##anyvar") for line in header)
    assert with_provenance([b"##x", b"#CHROM"], "") == [b"##x", b"#CHROM"]


def manifest(**asked: object) -> Manifest:
    given = {"options": AnnotateOptions(), "command": COMMAND, **asked}
    places = dict.fromkeys(("run_id", "digest", "input_sha256", "folder", "submitted"), "x")
    return Manifest(**places, input_name="in.vcf", input_size=1, staged_input="input.vcf", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["v", "z"])
def test_the_output_of_anyvars_worker_says_what_step_it_went_through(tmp_path: Path, kind: str) -> None:
    """AnyVar's worker writes text and no report; its lines become what was asked for anyway."""
    out = tmp_path / "anyvar"
    out.write_text(OLD)
    target = Target(tmp_path / "out.vcf", kind, index=False)  # type: ignore[arg-type]
    no_report: RunReport | None = None
    deliver(Fetched(out, no_report), manifest(), target, lambda: 3)
    if kind == "v":
        lines = target.path.read_text().splitlines()  # type: ignore[union-attr]
        assert lines[-6:-4] == OURS
        assert [line for line in lines if "anyvar_step" not in line] == [
            line for line in OLD.splitlines() if "anyvar_step" not in line
        ]


@pytest.mark.parametrize("existing", ["keep", "error"])
def test_what_anyvars_worker_cannot_do_is_not_passed_for_done(tmp_path: Path, existing: str) -> None:
    out, target = tmp_path / "anyvar", Target(tmp_path / "out.vcf", "v", index=False)
    out.write_text(OLD)
    with pytest.raises(ConfigurationError, match=f"cannot do --existing {existing}"):
        deliver(Fetched(out, None), manifest(existing=existing), target, lambda: 3)
    assert not (tmp_path / "out.vcf").exists()


@pytest.mark.parametrize("expected", [2, 4])
def test_an_output_of_anyvars_worker_with_other_records_than_the_input_is_not_delivered(
    tmp_path: Path, expected: int
) -> None:
    out, target = tmp_path / "anyvar", Target(tmp_path / "out.vcf", "v", index=False)
    out.write_text(OLD)
    with pytest.raises(CorruptFile, match=f"has 3 records, the input {expected}"):
        deliver(Fetched(out, None), manifest(), target, lambda: expected)
    assert not (tmp_path / "out.vcf").exists()
