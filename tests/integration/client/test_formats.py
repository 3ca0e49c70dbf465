"""Forms of input and output that a step takes and gives: BCF, selections, indexes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pysam
import pysam.bcftools
import pytest
from support import Site

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.vcf import VcfReader


def text_of(path: Path, *arguments: str) -> str:
    """What ``bcftools view`` shows of a VCF or BCF."""
    return str(pysam.bcftools.view("--no-version", *arguments, str(path)))


def records_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory, vcf: Path) -> Path:
    """The sample VCF with all fields declared, as a BCF needs them; beside it the same as in.bcf, indexed."""
    folder = tmp_path_factory.mktemp("declared")
    lines = vcf.read_text().splitlines(keepends=True)
    lines.insert(1, '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n')
    (folder / "in.vcf").write_text("".join(lines))
    bcf = folder / "in.bcf"
    pysam.bcftools.view("-Ob", "-o", str(bcf), str(folder / "in.vcf"), catch_stdout=False)
    pysam.bcftools.index(str(bcf))
    return folder / "in.vcf"


@pytest.fixture(scope="module")
def annotated(served: Site, declared: Path) -> str:
    """The text of the whole annotated VCF."""
    done = served.run("annotate", declared, "-o", "-")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_bcf_in_gives_the_vcf_s_annotation(served: Site, declared: Path, annotated: str) -> None:
    for arguments in ((), ("--chunks", "3")):
        done = served.run("annotate", declared.with_suffix(".bcf"), "-o", "-", *arguments)
        assert done.returncode == 0, done.stderr
        assert records_of(done.stdout) == records_of(annotated)
    assert served.left_over() == []


@pytest.mark.parametrize("arguments", [(), ("--chunks", "3")])
def test_a_bcf_out_is_whole_and_indexed(
    served: Site, declared: Path, annotated: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    out, report = tmp_path / "out.bcf", tmp_path / "report.json"
    done = served.run("annotate", declared, "-o", out, "--report", report, *arguments)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.bcf", "out.bcf.csi"]
    assert records_of(text_of(out)) == records_of(annotated)
    assert records_of(text_of(out, "-r", "chr1")) == records_of(annotated)
    told = json.loads(report.read_text())
    assert told["output_size"] == out.stat().st_size
    assert served.left_over() == []
    assert list(tmp_path.glob(".*")) == []


def test_a_bcf_goes_to_standard_output(served: Site, declared: Path, annotated: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anyvar_step", "annotate", declared, "-o", "-", "-O", "b"]
    with (tmp_path / "out.bcf").open("wb") as out:
        subprocess.run(command, env=served.environ, stdout=out, check=True)
    assert records_of(text_of(tmp_path / "out.bcf")) == records_of(annotated)


def test_a_bcf_comes_from_a_run_that_was_submitted(
    served: Site, declared: Path, annotated: str, tmp_path: Path
) -> None:
    ticket = tmp_path / "in.ticket"
    done = served.run("submit", declared.with_suffix(".bcf"), "--ticket", ticket)
    assert done.returncode == 0, done.stderr
    assert served.run("wait", ticket).returncode == 0
    done = served.run("collect", ticket, "-o", tmp_path / "out.bcf", "--no-write-index")
    assert done.returncode == 0, done.stderr
    assert records_of(text_of(tmp_path / "out.bcf")) == records_of(annotated)
    assert not (tmp_path / "out.bcf.csi").exists()


def test_a_vcf_that_bcf_cannot_hold_leaves_nothing_and_says_why(
    served: Site, vcf: Path, tmp_path: Path
) -> None:
    """BCF numbers what the header declares; the sample's INFO/DP is not declared."""
    out = tmp_path / "out.bcf"
    done = served.run("annotate", vcf, "-o", out)
    assert done.returncode == 65
    assert "INFO 'DP'" in done.stderr
    assert "-O z" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert served.left_over() == []


def test_a_selection_is_annotated_and_nothing_else_is_copied(
    served: Site, declared: Path, annotated: str
) -> None:
    for source in (declared, declared.with_suffix(".bcf")):
        for chunks in ("1", "2"):
            done = served.run("annotate", source, "-o", "-", "-r", "chr1:1-100000", "-G", "--chunks", chunks)
            assert done.returncode == 0, done.stderr
            wanted = [line.split("\t")[:8] for line in records_of(annotated)]
            found = [line.split("\t") for line in records_of(done.stdout)]
            assert found == [columns for columns in wanted if int(columns[1]) <= 100_000]
    assert served.left_over() == []


@pytest.mark.parametrize("chunks", [(), ("--chunks", "2")])
def test_a_selection_that_leaves_nothing_is_noted(
    served: Site, declared: Path, tmp_path: Path, chunks: tuple[str, ...]
) -> None:
    """The file calls it chr1: an empty output would pass for one without variants."""
    told = ("--report", tmp_path / "report.json")
    done = served.run("annotate", declared, "-o", tmp_path / "OUT.VCF.GZ", "-r", "1", *chunks, *told)
    assert done.returncode == 0, done.stderr
    note = "in.vcf has no record for --regions 1: are its contigs named so?"
    assert done.stderr.count(note) == 1
    assert note in json.loads((tmp_path / "report.json").read_text())["notes"]
    assert (tmp_path / "OUT.VCF.GZ").read_bytes().startswith(b"\x1f\x8b")  # whatever the case of its name


def test_regions_do_not_turn_into_their_opposite(served: Site, declared: Path) -> None:
    for option in ("--regions", "--regions-file"):
        done = served.run("annotate", declared, "-o", "-", option, "^chr1")
        assert done.returncode == 2
        assert f"{option} takes no ^: use --targets" in done.stderr


def test_standard_input_is_not_cut_and_the_user_knows(served: Site, declared: Path, annotated: str) -> None:
    done = served.run("annotate", "-", "-o", "-", "--chunks", "2", input=declared.read_text())
    assert done.returncode == 0, done.stderr
    assert "--chunks needs a file to cut: standard input is annotated as one" in done.stderr
    assert records_of(done.stdout) == records_of(annotated)


def test_an_index_is_csi_where_it_is_asked_for_or_needed(
    served: Site, declared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf.gz"
    assert served.run("annotate", declared, "-o", out).returncode == 0
    assert (tmp_path / "out.vcf.gz.tbi").exists()
    assert served.run("annotate", declared, "-o", out, "--csi").returncode == 0
    assert (tmp_path / "out.vcf.gz.csi").exists()
    assert not (tmp_path / "out.vcf.gz.tbi").exists()
    done = served.run("annotate", declared, "-o", tmp_path / "out.vcf", "--csi")
    assert done.returncode == 2
    assert "only a file in BGZF or BCF" in done.stderr


def test_crlf_is_kept_out_and_other_bytes_are_kept(served: Site, declared: Path, tmp_path: Path) -> None:
    """Latin-1 and UTF-8 in one file, as careless tools leave them."""
    text = declared.read_bytes()
    odd = "##note=caf\u00e9".encode("latin-1") + b"\n" + "##note=\u043c\u0438\u0440".encode() + b"\n"
    strange = text.replace(b"#CHROM", odd + b"#CHROM").replace(b"DP=9", b"DP=9;N=\xe9\xc3\xa9")
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    source.write_bytes(strange.replace(b"\n", b"\r\n"))
    done = served.run("annotate", source, "-o", out)
    assert done.returncode == 0, done.stderr
    with out.open("rb") as raw:
        reader = VcfReader(raw, "out.vcf")
        lines = [line for lines in reader.blocks() for line in lines]
    assert odd.splitlines() == [line for line in reader.header if line.startswith(b"##note")]
    assert b"\r" not in out.read_bytes()
    assert len(lines) == 200
    assert all(b"\tDP=9;N=\xe9\xc3\xa9;VRS_" in line for line in lines)


def test_a_vcf_of_another_assembly_is_refused_until_it_is_forced(
    served: Site, declared: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    source.write_text(declared.read_text().replace("length=200000", "length=202000"))
    for arguments in ((), ("--chunks", "2")):
        done = served.run("annotate", source, "-o", out, *arguments)
        assert done.returncode == 65
        assert "chr1 has 202000 bases, the reference has 200000" in done.stderr
        assert "--assembly" in done.stderr
        assert not out.exists()
    done = served.run("annotate", source, "-o", out, "--force")
    assert done.returncode == 0, done.stderr
    assert "chr1 has 202000 bases" in done.stderr
    assert out.read_text().count("VRS_Allele_IDs=.") == 200  # a wrong identifier is worse than none


def test_any_assembly_goes_by_its_name(site: Site, declared: Path, annotated: str) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": f"T2T-CHM13={site.genome},mine={site.genome}"}
    with site.worker():
        for assembly in ("T2T-CHM13", "mine"):
            done = site.run("annotate", declared, "-o", "-", "--assembly", assembly)
            assert done.returncode == 0, done.stderr
            assert records_of(done.stdout) == records_of(annotated)
        done = site.run("annotate", declared, "-o", "-", "--assembly", "chm13v2.0")
    assert done.returncode == 78
    assert "--reference T2T-CHM13=FASTA" in done.stderr


def provenance(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("##anyvar_step")]


def test_the_header_names_version_and_command_without_paths_servers_and_secrets(
    served: Site, declared: Path, tmp_path: Path
) -> None:
    bed = tmp_path / "where it is.bed"
    bed.write_text("chr1\t0\t200000\n")
    arguments = ("-R", bed, "--broker-url", served.redis_url, "--work-dir", served.work_dir, "--attributes")
    done = served.run("annotate", declared, "-o", tmp_path / "out.vcf", *arguments)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.vcf").read_text()
    assert provenance(text) == [
        f"##anyvar_stepVersion={__version__}+vrs-{VRS_VERSION}",
        "##anyvar_stepCommand=annotate --assembly GRCh38 --attributes --regions-file 'where it is.bed'",
    ]
    assert served.redis_url not in text
    assert str(tmp_path) not in text
    done = served.run("annotate", declared, "-o", "-", "--no-version")
    assert provenance(done.stdout) == []


def test_pieces_and_submitted_runs_have_the_header_of_one_step(
    served: Site, declared: Path, annotated: str, tmp_path: Path
) -> None:
    done = served.run("annotate", declared, "-o", "-", "--chunks", "3")
    assert done.stdout == annotated
    ticket = tmp_path / "ticket"
    assert served.run("submit", declared, "--ticket", ticket).returncode == 0
    assert served.run("wait", ticket).returncode == 0
    done = served.run("collect", ticket, "-o", "-")
    assert done.stdout == annotated
    assert len(provenance(annotated)) == 2


def test_what_becomes_of_older_vrs_fields_is_the_caller_s_choice(
    served: Site, annotated: str, tmp_path: Path
) -> None:
    """Through the web API as through the queue."""
    source = tmp_path / "in.vcf"
    source.write_text(annotated.replace("VRS_Allele_IDs=ga4gh:VA.", "VRS_Allele_IDs=ga4gh:VA.old"))
    with served.web() as api:
        served.extra["ANYVAR_STEP_URL"] = api.url
        for via in ("celery", "http"):
            done = served.run("annotate", source, "-o", "-", "--via", via)
            assert done.stdout == annotated, done.stderr
            done = served.run("annotate", source, "-o", "-", "--via", via, "--existing", "keep")
            assert records_of(done.stdout) == records_of(source.read_text()), done.stderr
            done = served.run("annotate", source, "-o", "-", "--via", via, "--existing", "error")
            assert done.returncode == 65
            assert "has been annotated already" in done.stderr
        del served.extra["ANYVAR_STEP_URL"]


def test_the_web_api_takes_a_bcf_as_anyvars_does(served: Site, declared: Path, annotated: str) -> None:
    with served.web() as api, declared.with_suffix(".bcf").open("rb") as bcf:
        answer = httpx.put(f"{api.url}/vcf", files={"vcf": ("in.bcf", bcf)}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert records_of(answer.text) == records_of(annotated)
