"""Submit first and wait later: submit, wait, status, collect, cancel; and config."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from support import Site, stored, until

from anyvar_step.models import State
from anyvar_step.runs.state import RunState
from anyvar_step.settings import load


def test_submit_wait_collect_by_ticket(served: Site, vcf: Path, tmp_path: Path) -> None:
    ticket, out, report = (tmp_path / name for name in ("run.ticket", "out.vcf.gz", "run.json"))
    run_id = served.run("submit", vcf, "--ticket", ticket).stdout.strip()
    assert json.loads(ticket.read_text())["run_id"] == run_id
    assert served.run("wait", ticket).returncode == 0
    assert served.run("collect", ticket, "-o", out, "--report", report).returncode == 0
    assert out.with_name("out.vcf.gz.tbi").exists()
    seconds = json.loads(report.read_text())["seconds"]
    assert {"wait", "annotate", "collect"} <= seconds.keys()
    assert seconds["wait"] >= 0 < seconds["collect"]
    assert served.left_over() == []
    assert "404 NOT_FOUND" in served.run("status", ticket).stdout
    again = served.run("collect", ticket, "-o", out)
    assert again.returncode == 75, again.stderr


def test_status_tells_what_the_endpoint_would(site: Site, vcf: Path) -> None:
    run_id = site.run("submit", vcf).stdout.strip()
    told = json.loads(site.run("status", run_id, "--json").stdout)
    assert (told["status_code"], told["status"]) == (202, "SENT")
    assert site.run("collect", run_id, "-o", "-").returncode == 69
    assert site.run("status", "no-such-run").stdout == "no-such-run: 404 NOT_FOUND\n"
    assert site.run("status", "../../etc").returncode == 2


def test_a_wait_that_gives_up_leaves_the_run_as_its_help_says(site: Site, vcf: Path) -> None:
    run_id = site.run("submit", vcf).stdout.strip()
    assert site.run("wait", run_id, "--timeout", "1").returncode == 124
    assert site.run("status", run_id).stdout == f"{run_id}: 202 SENT\n"
    assert "the run goes on" in " ".join(site.run("wait", "--help").stdout.split())


def test_the_failure_code_is_the_configured_one(site: Site, vcf: Path, tmp_path: Path) -> None:
    site.extra = {"ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE": "418"}
    bad = tmp_path / "bad.vcf"
    bad.write_text(vcf.read_text() + "chr1\tx\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    with site.worker():
        run_id = site.run("submit", bad).stdout.strip()
        until(lambda: "202" not in site.run("status", run_id).stdout)
    told = json.loads(site.run("status", run_id, "--json").stdout)
    assert (told["status_code"], told["error_code"]) == (418, "RUN_FAILURE")
    waited = site.run("wait", run_id)
    assert waited.returncode == 65
    assert "line 205" in waited.stderr


def test_a_failure_of_a_worker_that_is_not_ours_exits_70_or_124(site: Site, vcf: Path) -> None:
    for name, code in (("ValueError", 70), ("TimeLimitExceeded", 124)):
        run_id = site.run("submit", vcf).stdout.strip()
        with RunState(load(site.environ)) as state:
            stored(
                state, run_id, State.FAILURE, {"exc_type": name, "exc_message": ["no VCF"], "exc_module": "x"}
            )
        done = site.run("wait", run_id)
        assert done.returncode == code, done.stderr
        assert "no VCF" in done.stderr
    assert site.left_over() == []


def test_cancel_removes_a_queued_run_and_its_files(site: Site, vcf: Path, tmp_path: Path) -> None:
    run_id = site.run("submit", vcf).stdout.strip()
    assert site.run("cancel", run_id).returncode == 0
    assert site.left_over() == []
    assert "RUN_CANCELLED" in site.run("status", run_id).stdout
    assert site.run("cancel", run_id).returncode == 75
    with site.worker():
        assert site.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0


def test_submitting_twice_finds_the_same_run_and_a_run_id_of_ones_own_is_kept(site: Site, vcf: Path) -> None:
    first = site.run("submit", vcf).stdout
    assert site.run("submit", vcf).stdout == first
    assert site.run("submit", vcf, "--no-for-ref").stdout != first
    assert site.run("submit", vcf, "--run-id", "genome-7").stdout == "genome-7\n"
    assert site.run("submit", vcf, "--run-id", "genome-7").stdout == "genome-7\n"
    other = site.run("submit", vcf, "--run-id", "genome-7", "--no-for-ref")
    assert other.returncode == 78
    assert "genome-7" in other.stderr
    assert site.run("submit", vcf, "--run-id", "a/b").returncode == 2


def test_work_dir_files_are_for_owner_and_group_only(site: Site, vcf: Path) -> None:
    site.extra = {"ANYVAR_STEP_WORK_DIR_MODE": "0660"}
    site.run("submit", vcf)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in site.left_over()}
    assert modes.pop("input.vcf") == 0o660
    assert modes.pop("manifest.json") == 0o660
    assert list(modes.values()) == [0o2770]
    site.extra = {}
    site.run("submit", vcf, "--no-for-ref")
    assert not any(path.stat().st_mode & stat.S_IROTH for path in site.left_over())


def test_ingest_says_that_it_does_not_go_through_a_web_api(site: Site, vcf: Path) -> None:
    site.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": "", "ANYVAR_STEP_URL": "http://localhost:1"}
    done = site.run("ingest", vcf)
    assert done.returncode == 78
    assert "Set ANYVAR_VCF_ASYNC_WORK_DIR" in done.stderr
    assert "PUT /annotated_vcf" in done.stderr


@pytest.mark.quick(1)
@pytest.mark.parametrize("mode", ["", "0664"])
def test_the_workers_files_have_the_same_modes(site: Site, vcf: Path, mode: str) -> None:
    site.extra = {"ANYVAR_STEP_WORK_DIR_MODE": mode} if mode else {}
    with site.worker():
        run_id = site.run("submit", vcf).stdout.strip()
        assert site.run("wait", run_id).returncode == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in site.left_over() if path.is_file()}
    [index] = [name for name in modes if name.endswith(".tbi")]
    assert modes.keys() == {"manifest.json", "input.vcf_outputvcf", "input.vcf_report.json", index}
    assert len({*modes.values()}) == 1
    assert modes["manifest.json"] == 0o664 if mode else not modes["manifest.json"] & 0o007


def test_config_shows_value_origin_and_celery_setting_without_passwords(site: Site) -> None:
    site.extra = {"CELERY_BROKER_URL": "redis://user:geheim@host:1/0", "CELERY_TASK_TIME_LIMIT": "4000"}
    (site.folder / ".env").write_text("CELERY_SOFT_TIME_LIMIT=3000\nCELERY_TASK_TIME_LIMIT=1\n")
    done = site.run("config", "--json")
    rows = {row["variable"]: row for row in json.loads(done.stdout)}
    assert "geheim" not in done.stdout
    assert rows["CELERY_BACKEND_URL"]["value"] == "redis://user:***@host:1/0"
    assert rows["CELERY_BACKEND_URL"]["origin"] == "CELERY_BROKER_URL"
    assert rows["CELERY_TASK_TIME_LIMIT"]["value"] == "4000"
    assert rows["CELERY_TASK_TIME_LIMIT"]["origin"] == "environment"
    assert rows["CELERY_SOFT_TIME_LIMIT"]["origin"] == str(site.folder / ".env")
    assert rows["CELERY_SOFT_TIME_LIMIT"]["celery"] == "task_soft_time_limit"
    assert rows["CELERY_TIMEZONE"]["origin"] == "default"


def test_config_and_check_warn_of_a_mistyped_variable(site: Site) -> None:
    site.extra = {"ANYVAR_STEP_REFERENC": "GRCh38=x.fa", "ANYVAR_STEP_TOKEN_FILE": ""}
    (site.folder / ".env").write_text("ANYVAR_STEP_WHATEVER=1\n")
    for done in (site.run("config"), site.run("check")):
        said = done.stdout + done.stderr
        assert "ANYVAR_STEP_REFERENC is no setting" in said
        assert "Did you mean ANYVAR_STEP_REFERENCE" in said
        assert "ANYVAR_STEP_WHATEVER is no setting" in said
        assert said.count("is no setting") == 2


def test_config_for_a_run_length_prints_limits_that_fit_together(site: Site) -> None:
    printed = site.run("config", "--for", "8h").stdout
    site.extra = dict(line.split("=") for line in printed.split())
    assert site.extra["CELERY_SOFT_TIME_LIMIT"] == "28800"
    assert site.run("config").returncode == 0
    assert site.run("config", "--for", "0").returncode == 2, "a limit of 0 is none at all"
