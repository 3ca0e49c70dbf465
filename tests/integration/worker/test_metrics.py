"""A worker's metrics as Prometheus scrapes them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Site, free_ports, until, write_vcf

pytest.importorskip("prometheus_client", reason="the metrics extra is not installed")

Samples = dict[str, float]


def scraped(port: int) -> Samples:
    """The samples by name and labels, parsed as Prometheus does."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def children_of(pid: int) -> list[int]:
    """The pool's processes."""
    argv = ["ps", "-o", "pid=", "--ppid", str(pid)]
    return [
        int(word) for word in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    ]


@pytest.fixture
def port(site: Site) -> Iterator[int]:
    """Where a worker with two processes serves its metrics."""
    found = free_ports(1)[0]
    with site.worker("--metrics-port", str(found), concurrency=2):
        yield found


def test_runs_records_seconds_and_failures_are_counted_over_all_processes(
    site: Site, port: int, vcf: Path
) -> None:
    before = scraped(port)
    assert before["anyvar_step_processes"] == 2
    assert before[f"anyvar_step_queue_length queue={site.queue}"] == 0
    assert not [name for name in before if name.startswith("anyvar_step_runs_total")]
    for seed in range(2):
        other = write_vcf(site.folder / f"{seed}.vcf", site.genome, records=100, seed=seed)
        assert site.run("annotate", other, "-o", f"{seed}.out.vcf").returncode == 0
    bad = site.folder / "bad.vcf"
    bad.write_text(vcf.read_text() + "chr1\tx\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    assert site.run("annotate", bad, "-o", "bad.out.vcf").returncode == 65
    after = scraped(port)
    assert after["anyvar_step_runs_total status=success task=annotate_vcf"] == 2
    assert after["anyvar_step_runs_total status=failure task=annotate_vcf"] == 1
    assert after["anyvar_step_failures_total error_code=RUN_FAILURE exit_code=65 task=annotate_vcf"] == 1
    assert after["anyvar_step_records_total task=annotate_vcf"] == 200
    assert after["anyvar_step_run_seconds_count task=annotate_vcf"] == 2
    spent = after["anyvar_step_run_seconds_sum task=annotate_vcf"]
    phases = [value for name, value in after.items() if name.startswith("anyvar_step_phase_seconds_total")]
    assert spent == pytest.approx(sum(phases))
    assert spent > 0


@pytest.mark.services
def test_a_killed_process_is_a_failure_too_and_what_it_counted_stays(site: Site, vcf: Path) -> None:
    port = free_ports(1)[0]
    lost = "anyvar_step_failures_total error_code=WORKER_LOST_ERROR exit_code=75 task=annotate_vcf"
    with site.worker("--metrics-port", str(port)) as worker:
        assert site.run("annotate", vcf, "-o", "out.vcf").returncode == 0
        long = write_vcf(site.folder / "long.vcf", site.genome, records=450_000)
        step = site.start("annotate", long, "-o", "long.out.vcf", "--resubmit", "0")
        until(lambda: scraped(port)["anyvar_step_runs_at_work"] == 1, what="a run at work")
        [child] = children_of(worker.pid)
        os.kill(child, signal.SIGKILL)
        step.communicate(timeout=120)
        assert step.returncode == 75
        until(lambda: scraped(port).get(lost) == 1, what="the failure's count")
        assert scraped(port)["anyvar_step_runs_total status=success task=annotate_vcf"] == 1


def test_the_queue_is_as_long_as_what_waits(site: Site) -> None:
    port = free_ports(1)[0]
    length = f"anyvar_step_queue_length queue={site.queue}"
    with site.worker("--metrics-port", str(port)) as worker:
        [child] = children_of(worker.pid)
        os.kill(child, signal.SIGSTOP)
        for seed in range(4):
            vcf = write_vcf(site.folder / f"{seed}.vcf", site.genome, records=10, seed=seed)
            assert site.run("submit", vcf).returncode == 0
        until(lambda: scraped(port)[length] == 3, what="three runs that wait, and one that a process has")
        os.kill(child, signal.SIGCONT)
        until(lambda: scraped(port)[length] == 0, what="an empty queue")


def test_a_port_in_use_is_said_before_the_first_run(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = site.run("worker", "--metrics-port", taken.getsockname()[1])
    assert done.returncode == 78
    assert "--metrics-port" in done.stderr


def test_the_port_is_free_again_once_the_worker_is_killed(site: Site) -> None:
    port = free_ports(1)[0]
    with site.worker("--metrics-port", str(port)) as worker:
        assert children_of(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
            again.listen()
