"""Where outputs go: over no input and no other output, through links and pipes, and told before any work."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Site, heeding_modes


@pytest.fixture
def kept(tmp_path: Path, vcf: Path) -> Path:
    """A folder with files that no command may overwrite."""
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "in.vcf").write_bytes(vcf.read_bytes())
    for name in ("in.bed", "genome.fa", "r.json", "ticket"):
        (folder / name).write_text("kept")
    (folder / "link.vcf").symlink_to("in.vcf")
    os.link(folder / "in.vcf", folder / "same.vcf")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.quick(6)
@pytest.mark.parametrize(
    "command",
    [
        "annotate in.vcf -o in.vcf",
        "annotate in.vcf -o ../kept/in.vcf",
        "annotate in.vcf -o link.vcf",
        "annotate in.vcf -o same.vcf",
        "annotate in.vcf -o out.vcf --report in.vcf",
        "annotate in.vcf -o out.vcf --report out.vcf",
        "annotate in.vcf -o out.vcf.gz --report out.vcf.gz.tbi",
        "annotate in.vcf -o out.vcf.gz --tsv out.vcf.gz.csi",
        "annotate in.vcf -o out.vcf --ndjson x --report ./x",
        "annotate in.vcf -o out.vcf -R in.bed --report in.bed",
        "annotate in.vcf -o out.vcf -T ^in.bed --tsv in.bed",
        "annotate in.vcf -o out.vcf --local --reference GRCh38=genome.fa --report genome.fa",
        "collect ticket -o ticket",
        "collect ticket -o out.vcf --report ticket",
        "submit in.vcf --ticket in.vcf",
        "ingest in.vcf --conflicts in.vcf",
        "ingest in.vcf --report link.vcf",
        "ingest in.vcf --conflicts x --report x",
        "report r.json -o r.json",
    ],
)
def test_no_output_is_written_over_an_input_or_another_output(site: Site, kept: Path, command: str) -> None:
    before = contents(kept)
    site.folder = kept
    done = site.run(*command.split())
    assert done.returncode == 2, done.stderr
    assert "would overwrite" in done.stderr
    assert contents(kept) == before


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "command",
    [
        "annotate in.vcf -o absent/x",
        "annotate in.vcf -o out.vcf --report absent/x",
        "annotate in.vcf -o out.vcf --tsv absent/x",
        "collect ticket -o out.vcf --report absent/x",
        "submit in.vcf --ticket absent/x",
        "ingest in.vcf --conflicts absent/x",
        "report r.json -o absent/x",
    ],
)
def test_a_missing_directory_is_told_before_any_work(site: Site, kept: Path, command: str) -> None:
    """No worker serves this site."""
    site.folder = kept
    done = site.run(*command.split())
    assert done.returncode == 2, done.stderr
    assert f"does not exist: {kept}/absent" in done.stderr
    assert site.left_over() == []
    refused = site.run(*command.replace("absent/x", ".").split())
    assert refused.returncode == 2
    assert "directory" in refused.stderr


def test_a_directory_that_may_not_be_written_exits_77(site: Site, kept: Path) -> None:
    site.folder, site.prefix = kept, heeding_modes()
    (kept / "closed").mkdir(mode=0o555)
    done = site.run("annotate", "in.vcf", "-o", "out.vcf", "--report", "closed/r.json")
    assert done.returncode == 77
    assert "closed, is not writable" in done.stderr


@pytest.mark.parametrize("command", ["annotate in.vcf -o out.vcf --report -", "submit in.vcf --ticket -"])
def test_a_dash_makes_no_file_of_that_name(site: Site, kept: Path, command: str) -> None:
    site.folder = kept
    done = site.run(*command.split())
    assert done.returncode == 2
    assert "/dev/stdout" in done.stderr


def test_a_run_is_named_even_where_its_ticket_cannot_be_written(site: Site, vcf: Path) -> None:
    done = site.run("submit", vcf, "--ticket", "/dev/full")
    assert done.returncode == 74
    assert site.run("status", done.stdout.strip()).stdout == f"{done.stdout.strip()}: 202 SENT\n"


def test_a_fifo_gets_the_bytes_and_stays(served: Site, vcf: Path, tmp_path: Path) -> None:
    pipes = [tmp_path / name for name in ("out.vcf.gz", "out.tsv", "report.json")]
    for pipe in pipes:
        os.mkfifo(pipe)
    with ThreadPoolExecutor(len(pipes)) as readers:
        read = [readers.submit(pipe.read_bytes) for pipe in pipes]
        done = served.run("annotate", vcf, "-o", pipes[0], "--tsv", pipes[1], "--report", pipes[2])
        assert done.returncode == 0, done.stderr
        out, tsv, report = (each.result() for each in read)
    assert gzip.decompress(out).count(b"VRS_Allele_IDs=ga4gh") == 200
    assert tsv.count(b"ga4gh:VA.") == 400
    assert b'"records": 200' in report
    assert all(stat.S_ISFIFO(pipe.stat().st_mode) for pipe in pipes)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pipe.name for pipe in pipes)


def test_a_device_stays_a_device_and_several_outputs_may_go_to_it(
    served: Site, vcf: Path, tmp_path: Path
) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.write_bytes(b"x")
    except PermissionError:
        pytest.skip("NOT TESTED: only root makes devices")
    done = served.run("annotate", vcf, "-o", null, "--report", null, "--tsv", null)
    assert done.returncode == 0, done.stderr
    assert stat.S_ISCHR(null.stat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


def test_a_process_substitution_reads_what_is_written(served: Site, vcf: Path, tmp_path: Path) -> None:
    script = f"{sys.executable} -m anyvar_step annotate {vcf} -o >(grep -vc ^# > count; mv count counted)"
    script += "; wait $!"
    done = subprocess.run(
        ["bash", "-c", script], env=served.environ, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "counted").read_text() == "200\n"


def test_a_pipe_has_no_index(site: Site, vcf: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.vcf.gz")
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf.gz", "--write-index")
    assert done.returncode == 2
    assert "index" in done.stderr


def test_a_link_is_followed_and_the_index_is_found_beside_both(
    served: Site, vcf: Path, tmp_path: Path
) -> None:
    place, named = tmp_path / "place", tmp_path / "named"
    place.mkdir()
    named.mkdir()
    link = named / "link.vcf.gz"
    link.symlink_to("../place/real.vcf.gz")
    for _ in range(2):  # a file that is not there yet, then one with an older index
        done = served.run("annotate", vcf, "-o", link)
        assert done.returncode == 0, done.stderr
        assert str(link.readlink()) == "../place/real.vcf.gz"
        assert gzip.decompress(link.read_bytes()).count(b"VRS_Allele_IDs=ga4gh") == 200
        assert (named / "link.vcf.gz.tbi").samefile(place / "real.vcf.gz.tbi")
        assert sorted(path.name for path in place.iterdir()) == ["real.vcf.gz", "real.vcf.gz.tbi"]
