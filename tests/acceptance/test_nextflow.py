"""The pipeline and its modules under the real Nextflow, with real workers."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pysam
import pytest
import redis
from nextflow import NEWEST, PIPELINE, PROGRAM, Nextflow, missing_programs
from slurm import Slurm
from support import ROOT, Site, skip, until, write_vcf

from anyvar_step import __version__
from anyvar_step.errors import RETRYABLE
from anyvar_step.runs.connection import redis_url
from anyvar_step.runs.keys import meta_key

pytestmark = pytest.mark.services

SAMPLES = ("alice", "bela", "carol")
#: The outputs that are made of all samples together.
TOGETHER = ["pipeline_info/versions.yml", "summary.html"]


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    if missing := missing_programs():
        skip(
            "NOT TESTED WITH NEXTFLOW",
            f"no {', '.join(missing)}: apt install openjdk-17-jre-headless maven procps",
        )


@pytest.fixture
def nextflow(site: Site, tmp_path: Path) -> Nextflow:
    return Nextflow(tmp_path / "launch", site.environ)


@pytest.fixture
def vcfs(genome: Path, tmp_path: Path) -> list[Path]:
    return [write_vcf(tmp_path / f"{name}.vcf", genome, seed=seed) for seed, name in enumerate(SAMPLES)]


@pytest.fixture
def arguments(nextflow: Nextflow, vcfs: list[Path]) -> list[str]:
    return ["--input", str(nextflow.sheet(*vcfs)), "--outdir", "results"]


def queued(site: Site) -> int:
    with redis.Redis.from_url(redis_url(site.redis_url)) as client:
        return int(client.llen(site.queue))  # type: ignore[arg-type]


def results() -> list[str]:
    annotated = [f"annotated/{name}.vrs.vcf.gz{suffix}" for name in SAMPLES for suffix in ("", ".tbi")]
    reports = [f"reports/{name}.vrs.json" for name in SAMPLES]
    return sorted([*annotated, *reports, *sections("alleles", "general", "phases"), *TOGETHER])


def sections(*names: str) -> list[str]:
    return [f"multiqc/{name}_anyvar_step_mqc.json" for name in names]


def long_vcf(path: Path, genome: Path, seed: int) -> Path:
    """A VCF that keeps a worker busy for some seconds."""
    body = write_vcf(path, genome, records=20_000, seed=seed).read_text().partition("S1\n")[2]
    with path.open("a") as file:
        for _ in range(40):
            file.write(body)
    return path


def test_three_samples_wait_side_by_side_and_a_resumed_run_does_nothing_again(
    nextflow: Nextflow, arguments: list[str], site: Site
) -> None:
    with nextflow.running(*arguments) as process:
        until(lambda: queued(site) == 3, 120, "three runs in the queue at once")
        with site.worker():
            out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert nextflow.made() == results()
    assert site.left_over() == []
    with pysam.VariantFile(str(nextflow.folder / "results/annotated/alice.vrs.vcf.gz")) as file:
        records = [record for record in file.fetch("chr1", 0, 200_000) if "VRS_Allele_IDs" in record.info]
    assert len(records) == 200
    assert "VRS_States" in records[0].info
    report = json.loads((nextflow.folder / "results/reports/alice.vrs.json").read_text())
    assert report["counts"]["records"] == 200
    versions = (nextflow.folder / "results/pipeline_info/versions.yml").read_text()
    assert sorted(re.findall(r'"\S+:(\w+)":\n    anyvar-step: \d+\.\d+\.\d+\n', versions)) == [
        "ANYVAR_STEP_ANNOTATE",
        "ANYVAR_STEP_REPORT",
    ]
    before = {row["hash"] for row in nextflow.trace()}
    again = nextflow.run(*arguments, "-resume")  # no worker is left: anything done again would wait for ever
    assert again.returncode == 0, again.stdout
    assert {row["hash"] for row in nextflow.trace()} == before
    assert {row["status"] for row in nextflow.trace()} == {"CACHED"}


def test_submit_first_and_wait_in_tasks_of_their_own(
    nextflow: Nextflow, arguments: list[str], site: Site
) -> None:
    with site.worker():
        done = nextflow.run(*arguments, "--submit_first")
    assert done.returncode == 0, done.stdout
    assert nextflow.made() == results()
    assert {row["name"].rpartition(":")[2].partition(" ")[0] for row in nextflow.trace()} == {
        "ANYVAR_STEP_SUBMIT",
        "ANYVAR_STEP_COLLECT",
        "ANYVAR_STEP_REPORT",
    }
    assert site.left_over() == []


def test_a_resumed_wait_whose_run_is_long_gone_annotates_anew(
    nextflow: Nextflow, arguments: list[str], site: Site, vcfs: list[Path]
) -> None:
    def tickets() -> list[Path]:
        return list((nextflow.folder / "work").rglob("*.ticket"))

    with nextflow.running(*arguments, "--submit_first") as process:
        until(lambda: sum(path.is_symlink() for path in tickets()) == 3, 120, "three waiting tasks")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert queued(site) == 3, "an interrupted wait leaves the runs at work"
    with redis.Redis.from_url(redis_url(site.redis_url)) as client:  # as after the result's expiry
        runs = [json.loads(path.resolve().read_bytes())["run_id"] for path in tickets()]
        client.delete(site.queue, *map(meta_key, runs))
    with site.worker():
        done = nextflow.run(*arguments, "--submit_first", "-resume")
    assert done.returncode == 0, done.stdout
    assert nextflow.made() == results()
    assert sorted(row["status"] for row in nextflow.trace()) == ["CACHED"] * 3 + ["COMPLETED"] * 4


def test_a_wait_that_runs_out_of_time_cancels_its_run_and_is_annotated_anew_when_resumed(
    nextflow: Nextflow, vcfs: list[Path], site: Site, tmp_path: Path
) -> None:
    late = tmp_path / "late.config"
    late.write_text("process { withName: 'ANYVAR_STEP_COLLECT' { ext.args = '--timeout 1s' } }\n")
    arguments = ["--input", nextflow.sheet(vcfs[0]), "--outdir", "results", "--submit_first"]
    done = nextflow.run(*arguments, "-c", late)  # no worker at all
    assert done.returncode != 0
    assert nextflow.attempts("alice") == ["0", "124", "124"], done.stdout
    assert site.left_over() == []
    with site.worker():
        resumed = nextflow.run(*arguments, "-resume")
    assert resumed.returncode == 0, resumed.stdout
    assert nextflow.attempts("alice") == ["0", "0"]
    assert "annotated/alice.vrs.vcf.gz" in nextflow.made()


@pytest.mark.parametrize("mode", ["annotate", "submit_first", "ingest"])
def test_a_stub_run_makes_every_output_without_any_worker(
    nextflow: Nextflow, arguments: list[str], mode: str
) -> None:
    done = nextflow.run(*arguments, "-stub", *([] if mode == "annotate" else [f"--{mode}"]))
    assert done.returncode == 0, done.stdout
    if mode == "ingest":
        made = [f"reports/{name}.vrs{suffix}" for name in SAMPLES for suffix in (".conflicts.csv", ".json")]
        assert nextflow.made() == sorted([*sections("general"), *made, *TOGETHER])
    else:
        without = sections("alleles", "phases")
        assert nextflow.made() == [name for name in results() if name not in without]


def test_failures_that_may_pass_are_retried_and_no_others(
    site: Site, vcfs: list[Path], tmp_path: Path
) -> None:
    """Each sample's first attempt ends with the exit code that it is named after; 124 ends so twice."""
    once = [*sorted(RETRYABLE), 137, 143]
    never = [2, 65, 66, 70, 77, 78]
    sample = r"code=${2#code}; code=${code%.vcf}; marks=" + f"{tmp_path}/marks/$code\n"
    program = (
        "#!/bin/bash\nif [ $1 = annotate ]; then\n"
        + sample
        + "mkdir -p $marks; touch $marks/$RANDOM$RANDOM\n"
        "[ $code -eq 124 ] && exit 124\n[ $(ls $marks | wc -l) -eq 1 ] && exit $code\nfi\n"
        + PROGRAM.partition("\n")[2]
    )
    named = [tmp_path / f"code{code}.vcf" for code in (*once, *never, 124)]
    for path in named:
        path.write_bytes(vcfs[0].read_bytes())
    nextflow = Nextflow(tmp_path / "launch", site.environ, program)
    with site.worker():
        done = nextflow.run(
            "--input", nextflow.sheet(*named), "--outdir", "results", "-profile", "keep_going"
        )
    assert done.returncode == 0, done.stdout
    seen = {path.stem: nextflow.attempts(path.stem) for path in named}
    assert seen == {
        **{f"code{code}": [str(code), "0"] for code in once},
        **{f"code{code}": [str(code)] for code in never},
        "code124": ["124", "124"],
    }


def test_a_file_that_is_no_vcf_ends_the_pipeline_at_once_and_says_why(
    nextflow: Nextflow, vcfs: list[Path], site: Site
) -> None:
    vcfs[1].write_text("this is no VCF\n")
    with site.worker():
        done = nextflow.run("--input", nextflow.sheet(*vcfs), "--outdir", "results")
    assert done.returncode != 0
    assert (
        "Process `ANNOTATE_SHEET:ANYVAR_STEP_ANNOTATE (bela)` terminated with an error exit status (65)"
        in (done.stdout)
    )
    assert "anyvar-step: bela.vcf" in done.stdout
    assert "shown so in" not in done.stdout, "there is no page of a pipeline that ended early"
    assert nextflow.attempts("bela") == ["65"]
    assert site.left_over() == []


def test_a_sample_left_out_is_named_at_the_end_and_on_the_page_until_it_is_done(
    nextflow: Nextflow, arguments: list[str], vcfs: list[Path], site: Site
) -> None:
    good = vcfs[1].read_text()
    vcfs[1].write_text("this is no VCF\n")
    with site.worker():
        done = nextflow.run(*arguments, "-profile", "keep_going")
        assert done.returncode == 0, done.stdout
        assert "WARN: failed, and shown so in results/summary.html: bela" in done.stdout
        page = (nextflow.folder / "results" / "summary.html").read_text()
        assert 'data-sample="bela"' in page
        assert "alice" in page
        assert sections("failed")[0] in nextflow.made()
        vcfs[1].write_text(good)
        again = nextflow.run(*arguments, "-profile", "keep_going", "-resume")
    assert again.returncode == 0, again.stdout
    assert "failed" not in again.stdout
    assert nextflow.made() == results()
    assert "bela" in (nextflow.folder / "results" / "summary.html").read_text()


def test_ctrl_c_revokes_the_runs_and_leaves_nothing_in_the_work_dir(
    nextflow: Nextflow, genome: Path, tmp_path: Path, site: Site
) -> None:
    busy = [long_vcf(tmp_path / f"busy{seed}.vcf", genome, seed) for seed in range(2)]
    started = nextflow.running("--input", nextflow.sheet(*busy), "--outdir", "results")
    with site.worker(), started as process:
        until(lambda: any("_outputvcf" in path.name for path in site.left_over()), 60, "a run at work")
        until(lambda: queued(site) == 1, what="a run in the queue")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode != 0, out
        until(lambda: site.left_over() == [], 20, "an empty work dir")
        small = write_vcf(tmp_path / "small.vcf", genome)
        assert site.run("annotate", small, "-o", tmp_path / "small.out.vcf").returncode == 0
    assert nextflow.made() == []


def test_the_same_name_for_input_and_output_is_refused(
    nextflow: Nextflow, vcfs: list[Path], site: Site, tmp_path: Path
) -> None:
    config = tmp_path / "names.config"
    config.write_text("process { withName: 'ANYVAR_STEP_.*' { ext.prefix = 'alice' } }\n")
    packed = vcfs[0].with_suffix(".vcf.gz")
    pysam.tabix_compress(str(vcfs[0]), str(packed))
    done = nextflow.run("--input", nextflow.sheet(packed), "--outdir", "results", "-c", config)
    assert done.returncode != 0
    assert "input and output are both named alice.vcf.gz: set task.ext.prefix" in done.stdout


def test_a_pipeline_of_ones_own_needs_the_module_and_one_config(
    nextflow: Nextflow, vcfs: list[Path], site: Site, tmp_path: Path
) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "main.nf").write_text(
        f"include {{ ANYVAR_STEP_ANNOTATE }} from '{PIPELINE}/modules/anyvar_step/annotate/main'\n"
        "workflow {\n    ch_vcf = channel.fromPath(params.vcf).map { vcf -> [[id: vcf.baseName], vcf] }\n"
        "    ANYVAR_STEP_ANNOTATE(ch_vcf)\n}\n"
    )
    program = PROGRAM.replace("exec", f"[ $1 = annotate ] && mkdir {tmp_path}/first && exit 75\nexec")
    mine = Nextflow(tmp_path / "mine", site.environ, program)
    with site.worker():
        done = mine.run(
            "--vcf", vcfs[0], "-c", PIPELINE / "conf/anyvar_step.config", pipeline=outer / "main.nf"
        )
    assert done.returncode == 0, done.stdout
    assert mine.attempts("alice") == ["75", "0"]


def test_every_wrong_parameter_is_named_before_anything_starts(nextflow: Nextflow) -> None:
    wrong = {
        "asembly": ("GRCh37", "unknown parameter; did you mean assembly?"),
        "timeoutminutes": ("5", "unknown parameter; did you mean timeout_minutes?"),
        "assembly": ("GRCh 37", "'GRCh 37': only letters, digits, '.', '_' and '-'"),
        "reference": ("gone.fa", "'gone.fa': no such file"),
        "timeout_minutes": ("soon", "'soon' is not a whole number"),
        "max_waiting": ("0", "0 is less than 1"),
        "attributes": ("maybe", "'maybe' is not true or false"),
        "publish_mode": ("teleport", "'teleport' is none of copy, link"),
        "submit_first": ("true", "not together with --ingest"),
    }
    done = nextflow.run(
        *(part for key, (value, _) in wrong.items() for part in (f"--{key}", value)), "--ingest"
    )
    assert done.returncode != 0
    for key, (_, message) in wrong.items():
        assert f"  {key}: {message}" in done.stdout
    for key in ("input: required", "outdir: required"):
        assert f"  {key}" in done.stdout
    assert "--help lists the right ones" in done.stdout
    alone = nextflow.run("--input", "samples.csv", "--local")
    assert "  input: 'samples.csv': no such file" in alone.stdout
    assert "  reference: required with --local" in alone.stdout
    assert nextflow.made("work") == []


@pytest.mark.parametrize(
    ("sheet", "messages"),
    [
        ("", ["samples.csv: no samples"]),
        ("sample,file\na,x.vcf\n", ["samples.csv: missing column vcf (comma-separated)"]),
        ("sample,vcf\n", ["samples.csv: no samples"]),
        ("sample,vcf\na,gone/x.vcf\n", ["samples.csv, line 2: vcf: 'gone/x.vcf': no such file"]),
        (
            "sample,vcf\na,x.vcf\na,x.vcf\na/b,x.vcf\nc\n",
            ["line 3: sample: duplicate a", "line 4: sample: 'a/b': only letters", "line 5: vcf: required"],
        ),
    ],
)
def test_a_wrong_sample_sheet_is_refused_by_its_line(
    nextflow: Nextflow, sheet: str, messages: list[str]
) -> None:
    (nextflow.folder / "samples.csv").write_text(sheet)
    done = nextflow.run("--input", "samples.csv", "--outdir", "results")
    assert done.returncode != 0
    for message in messages:
        assert message in done.stdout
    assert nextflow.made("work") == []


def test_a_sheet_with_quotes_and_file_names_with_spaces_and_brackets_is_read(
    nextflow: Nextflow, vcfs: list[Path], site: Site
) -> None:
    odd = nextflow.folder / "my [old] calls*.vcf"
    vcfs[0].rename(odd)
    (nextflow.folder / "samples.csv").write_text(
        f'\ufeff"sample","vcf","note"\r\n"a","{odd.name}","x, y"\r\n'
    )
    with site.worker():
        done = nextflow.run("--input", "samples.csv", "--outdir", "my results")
    assert done.returncode == 0, done.stdout
    assert "annotated/a.vrs.vcf.gz" in nextflow.made("my results")


def test_without_any_server(nextflow: Nextflow, vcfs: list[Path], genome: Path) -> None:
    nextflow.environ = {
        name: value for name, value in nextflow.environ.items() if not name.startswith(("ANYVAR_", "CELERY_"))
    }
    done = nextflow.run(
        "--input", nextflow.sheet(vcfs[0]), "--outdir", "results", "--local", "--reference", genome
    )
    assert done.returncode == 0, done.stdout
    assert "annotated/alice.vrs.vcf.gz" in nextflow.made()


# -- versions, and the options of the modules ------------------------------------------------------------


def warnings(out: str) -> list[str]:
    """The warnings of a run.

    Left out: Nextflow 25.04.4 under its strict parser does not recognize any setting below withName.
    """
    found = [line for line in out.splitlines() if line.startswith("WARN")]
    return [line for line in found if "Unrecognized config option 'process.withName:" not in line
            and "Unrecognized config option 'executor.$local" not in line]  # fmt: skip


@pytest.mark.parametrize(("version", "parser"), [(NEWEST, "v2"), (NEWEST, "v1"), ("24.10.0", "v1")])
def test_each_supported_version_and_parser_runs_it_without_a_warning(
    version: str, parser: str, vcfs: list[Path], site: Site, tmp_path: Path
) -> None:
    nextflow = Nextflow(tmp_path / "launch", site.environ, version=version, parser=parser)
    arguments = ["--input", nextflow.sheet(*vcfs), "--outdir", "results", "--publish_mode", "link"]
    with site.worker():
        done = nextflow.run(*arguments)
    assert done.returncode == 0, done.stdout
    assert f"version {version}" in done.stdout
    assert warnings(done.stdout) == []
    assert nextflow.made() == results()
    assert (nextflow.folder / "results/annotated/alice.vrs.vcf.gz").stat().st_nlink == 2, (
        "published by a link"
    )


OLDER = "nextflow-23.10"  # the copy of the pipeline that docs/nextflow.md describes


def test_an_older_version_is_refused_and_runs_the_copy_that_the_docs_describe(
    vcfs: list[Path], site: Site, tmp_path: Path
) -> None:
    nextflow = Nextflow(tmp_path / "launch", site.environ, version="23.10.1", parser="v1")
    arguments = ["--input", nextflow.sheet(*vcfs), "--outdir", "results"]
    refused = nextflow.run(*arguments)
    assert refused.returncode != 0
    assert "version 23.10.1 does not match workflow required version: >=24.10.0" in refused.stdout
    (nextflow.folder / "anyvar-step").symlink_to(ROOT)
    [commands] = [block for block in blocks("bash") if OLDER in block]
    subprocess.run(["bash", "-euc", commands], cwd=nextflow.folder, check=True)
    with site.worker():
        done = nextflow.run(*arguments, pipeline=nextflow.folder / OLDER)
    assert done.returncode == 0, done.stdout
    assert warnings(done.stdout) == []
    assert nextflow.made() == [name for name in results() if "versions.yml" not in name]


ANNOTATE = PIPELINE / "modules" / "anyvar_step" / "annotate"


def test_the_annotate_module_honours_ext_args(nextflow: Nextflow, tmp_path: Path) -> None:
    """Each alias of the module has options of its own; the first is the test that has an nf-test snapshot."""
    genome = tmp_path / "genome.fa"  # its index is written beside it
    genome.write_bytes((ANNOTATE / "tests" / "genome.fa").read_bytes())
    reference = f"--local --reference GRCh38={genome}"
    options = {
        "SNAPSHOT": "--attributes",
        "BCF": "-O b --ndjson objects.ndjson --tsv=table.tsv",
        "TEXT": "--output-type=v",
        "CSI": "-Oz --csi",
        "BARE": "--no-write-index",
    }
    channels = ("vcf", "tbi", "csi", "ndjson", "tsv", "report", "versions_anyvar_step")
    lines = []
    for name in options:
        lines.append(f"    {name}(ch_vcf)")
        lines += [f'    {name}.out.{c}.view {{ x -> "OUT {name} {c} ${{x[-1]}}" }}' for c in channels]
    includes = "\n".join(
        f"include {{ ANYVAR_STEP_ANNOTATE as {name} }} from '{ANNOTATE}/main'" for name in options
    )
    pipeline = tmp_path / "own" / "main.nf"
    pipeline.parent.mkdir()
    pipeline.write_text(
        f"{includes}\nworkflow {{\n    ch_vcf = channel.of([[id: 'test'], file('{ANNOTATE}/tests/a.vcf')])\n"
        + "\n".join(lines)
        + "\n    channel.topic('versions').view { x -> \"OUT topic ${x[1]} ${x[2]}\" }\n}\n"
    )
    config = tmp_path / "options.config"
    config.write_text(
        "process {\n"
        + "".join(f"    withName: '{k}' {{ ext.args = '{v} {reference}' }}\n" for k, v in options.items())
        + "}\n"
    )
    done = nextflow.run("-c", config, pipeline=pipeline)
    assert done.returncode == 0, done.stdout
    seen = re.findall(r"^OUT (\w+) (\S+) (\S+)$", done.stdout, re.MULTILINE)
    files = {(name, channel): Path(value) for name, channel, value in seen if name != "topic"}
    made = {name: {path.name for (n, c), path in files.items() if n == name and "versions" not in c}
            for name in options}  # fmt: skip
    assert made == {
        "SNAPSHOT": {"test.vcf.gz", "test.vcf.gz.tbi", "test.json"},
        "BCF": {"test.bcf", "test.bcf.csi", "objects.ndjson", "table.tsv", "test.json"},
        "TEXT": {"test.vcf", "test.json"},
        "CSI": {"test.vcf.gz", "test.vcf.gz.csi", "test.json"},
        "BARE": {"test.vcf.gz", "test.json"},
    }
    assert [value for name, _, value in seen if name == "topic"] == [__version__] * len(options)
    with pysam.VariantFile(str(files["BCF", "vcf"])) as bcf:
        assert (bcf.format, len(list(bcf))) == ("BCF", 3)
    # What nf-test compares by the snapshot.
    lines = gzip.decompress(files["SNAPSHOT", "vcf"].read_bytes()).decode().splitlines()
    digest = hashlib.md5("\n".join(line for line in lines if line[0] != "#").encode()).hexdigest()
    snapshot = json.loads((ANNOTATE / "tests" / "main.nf.test.snap").read_text())
    assert snapshot["a VCF"]["content"] == [
        digest,
        {"versions_anyvar_step": [["ANYVAR_STEP_ANNOTATE", "anyvar-step", __version__]]},
    ]


@pytest.mark.parametrize("module", ["annotate", "collect"])
def test_a_module_refuses_options_that_it_cannot_serve(
    nextflow: Nextflow, tmp_path: Path, module: str
) -> None:
    refused = {
        "-O x": "-O x: anyvar-step writes v (text), z (BGZF), b or u (BCF); z and b take a level",
        "-o x.vcf": "-o: the module names its outputs itself, by ext.prefix",
        "-ox.vcf": "-ox.vcf: the module names its outputs itself, by ext.prefix",
        "--output=x": "--output=x: the module names its outputs itself, by ext.prefix",
        "--csi --report r.json": "--report: the module names its outputs itself, by ext.prefix",
        "--ndjson a/b.ndjson": "--ndjson a/b.ndjson: the module finds only a file name that ends with",
        "--tsv -": "--tsv -: the module finds only a file name that ends with .tsv",
    }
    pipeline = tmp_path / "main.nf"
    calls = "".join(
        f"    try {{ outputExtension('{args}') }}\n"
        f'    catch (Exception e) {{ println "SAID ${{(e.cause ?: e).message}}" }}\n'
        for args in refused
    )
    pipeline.write_text(
        f"include {{ outputExtension }} from '{PIPELINE}/modules/anyvar_step/{module}/main'\n"
        f'workflow {{\n{calls}    println "SAID ${{outputExtension(\'-Ob -O "v"\')}}"\n}}\n'
    )
    done = nextflow.run(pipeline=pipeline)
    assert done.returncode == 0, done.stdout
    said = [line.removeprefix("SAID ") for line in done.stdout.splitlines() if line.startswith("SAID ")]
    option = "ext.args" if module == "annotate" else "ext.args3"
    assert len(said) == len(refused) + 1
    for line, reason in zip(said, refused.values(), strict=False):
        assert line.startswith(f"{option}: {reason}")
    assert said[-1] == "vcf", "the last one counts, as on the command line"


def test_collect_writes_what_its_options_ask_for(
    nextflow: Nextflow, vcfs: list[Path], site: Site, tmp_path: Path
) -> None:
    config = tmp_path / "csi.config"
    config.write_text("process { withName: 'ANYVAR_STEP_COLLECT' { ext.args3 = '--csi' } }\n")
    arguments = ["--input", nextflow.sheet(vcfs[0]), "--outdir", "results", "--submit_first"]
    with site.worker():
        done = nextflow.run(*arguments, "-c", config)
    assert done.returncode == 0, done.stdout
    annotated = [name for name in nextflow.made() if name.startswith("annotated")]
    assert annotated == ["annotated/alice.vrs.vcf.gz", "annotated/alice.vrs.vcf.gz.csi"]


#: Stands for a container engine: runs the command here, but in the image's environment and what was passed.
ENGINE = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
if words[0] in ("run", "exec"):
    with open("{{log}}", "a") as log:
        print(os.path.basename(sys.argv[0]), *words, file=log)
    names = [words[n + 1] for n, word in enumerate(words) if word == "-e"]
    inside = {{{{name: os.environ[name] for name in names if name in os.environ}}}}
    for name, value in os.environ.items():
        if name.startswith(("APPTAINERENV_", "SINGULARITYENV_")):
            inside[name.partition("_")[2]] = value
    inside.update(PATH=os.environ["PATH"], PYTHONPATH="{ROOT}")
    command = words[words.index("/bin/bash"):]
    os.execve(command[0], command, inside)
"""


@pytest.fixture
def engines(nextflow: Nextflow) -> Path:
    """Engines on PATH; the file has the commands that they were given."""
    log = nextflow.folder / "engines.log"
    for name in ("docker", "apptainer", "singularity"):
        program = nextflow.folder / "bin" / name
        program.write_text(ENGINE.format(log=log))
        program.chmod(0o755)
    return log


@pytest.mark.parametrize("engine", ["docker", "apptainer", "singularity"])
def test_a_task_in_a_container_has_the_settings_the_work_dir_and_the_reference(
    engine: str, nextflow: Nextflow, engines: Path, vcfs: list[Path], genome: Path, site: Site
) -> None:
    arguments = ["--input", nextflow.sheet(vcfs[0]), "--outdir", "results", "-profile", engine]
    if engine != "docker":  # Docker finds the image by the tag that the documented build gives it
        refused = nextflow.run(*arguments)
        assert f"  container: required with -profile {engine}" in refused.stdout
    with site.worker():
        done = nextflow.run(*arguments, "--container", "/images/anyvar-step.sif", "--reference", genome)
    assert done.returncode == 0, done.stdout
    assert "annotated/alice.vrs.vcf.gz" in nextflow.made()
    [annotate, _] = engines.read_text().splitlines()
    option, suffix = ("-v", ":") if engine == "docker" else ("--bind", "")
    for folder in (site.work_dir, genome.parent):
        assert f" {option} {folder}{suffix and suffix + str(folder)} " in annotate
    assert " /images/anyvar-step.sif /bin/bash " in annotate
    assert site.redis_url not in annotate, "settings can hold passwords"


@pytest.fixture
def reader(
    nextflow: Nextflow,
    engines: Path,
    vcfs: list[Path],
    genome: Path,
    slurm: Slurm,
) -> Nextflow:
    """A directory as docs/nextflow.md supposes it, on a machine with Slurm and container engines."""
    here = nextflow.folder
    # No symlink: the strict parser of 25.04 finds no included module behind one.
    shutil.copytree(ROOT / "workflow", here / "anyvar-step" / "workflow")
    (here / "GRCh38.fa").symlink_to(genome)
    (here / "calls").mkdir()
    for vcf in vcfs[:2]:
        (here / "calls" / vcf.name).write_bytes(vcf.read_bytes())
    [sheet] = blocks("csv")
    (here / "samples.csv").write_text(sheet)
    nextflow.environ |= {
        "SLURM_CONF": slurm.environ["SLURM_CONF"],
        "PATH": f"{nextflow.environ['PATH']}:{slurm.folder}/bin",
    }
    return nextflow


def blocks(language: str) -> list[str]:
    """The code blocks of that language in docs/nextflow.md."""
    text = (ROOT / "docs" / "nextflow.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_page_on_nextflow_as_typed(reader: Nextflow, site: Site) -> None:
    (reader.folder / "main.nf").write_text(blocks("nextflow")[0])
    with site.worker():
        commands = "".join(block for block in blocks("bash") if OLDER not in block)
        for command in commands.splitlines():
            done = subprocess.run(
                command, shell=True, env=reader.environ, cwd=reader.folder, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    expected = [name for name in results() if "carol" not in name]
    for folder in ("results", "alone", "docker", "apptainer"):
        assert reader.made(folder) == expected
    assert set(reader.made("stub")) <= set(expected)
    assert "alice: alice.vcf.gz" in done.stdout  # of the last one, the pipeline of one's own
    assert site.left_over() == []
