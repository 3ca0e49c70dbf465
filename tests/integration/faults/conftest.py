"""The fault suite's own fixtures. Set by environment variables, so that a failure can be had again:

FAULTS_SEED     of all random choices; it is printed [default: 8]
FAULTS_TRIALS   of each fault [default: 1]
FAULTS_AT_ONCE  trials at a time [default: 4]
FAULTS_RESULTS  a file that gets a line of JSON for each trial; trials that it has already are not done again
FAULTS_TABLE    a Markdown file into which the table of outcomes is written, between its two marks
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Site, until, write_vcf

from faults.harness import CHUNKS, Campaign, Fault, Material, Views
from faults.table import Results, summary, write_table

HERE = Path(__file__).parent
#: Seconds after which a view shows what was done through the other one.
LAG = 0.4
_finished: list[Campaign] = []


class NoMount(Exception):
    """This machine has no FUSE, or does not let us mount."""


@contextlib.contextmanager
def lagging(source: Path, mount: Path) -> Iterator[Path]:
    """A lagging view of ``source`` at ``mount``."""
    mount.mkdir()
    argv = [sys.executable, str(HERE / "lagging.py"), str(source), str(mount), str(LAG)]
    with mount.with_suffix(".log").open("w+") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: mount.is_mount() or process.poll() is not None, what="a FUSE mount")
            if process.poll() is not None:
                raise NoMount(Path(log.name).read_text())
            yield mount
        finally:
            subprocess.run(["umount", "--lazy", str(mount)], check=False, stderr=log)
            process.kill()
            process.wait()


@pytest.fixture(autouse=True)
def _no_step_outlives_its_test() -> None:
    """In the place of what all other tests have: trials of several tests run at once, and end their own."""


@pytest.fixture(scope="session")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """A directory that steps and workers see each through a lagging view of its own, where there is FUSE."""
    folder = tmp_path_factory.mktemp("faults")
    real = folder / "real"
    real.mkdir()
    with contextlib.ExitStack() as mounts:
        try:
            step, worker = (mounts.enter_context(lagging(real, folder / name)) for name in ("step", "worker"))
        except NoMount:
            yield Views(real, real, real, "NO LAG: no FUSE mount here, step and worker see one directory")
        else:
            yield Views(real, step, worker, f"step and worker see what the other does {LAG:g} s late")


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory, genome: Path, redis_url: str) -> Material:
    """A VCF that keeps a worker busy for a second or two, and what becomes of it undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    vcf = write_vcf(folder / "in.vcf", genome, records=180_000)
    site = Site(folder / "site", redis_url, genome)
    small = write_vcf(folder / "small.vcf", genome, seed=2)
    outputs, seconds = list[bytes](), list[float]()
    with site.worker():
        for path, options in ((vcf, ()), (vcf, ("--chunks", str(CHUNKS))), (small, ())):
            out = folder / f"out-{len(outputs)}.vcf.gz"
            begin = time.monotonic()
            done = site.run("annotate", path, "-o", out, *options)
            assert done.returncode == 0, done.stderr
            seconds.append(time.monotonic() - begin)
            outputs.append(out.read_bytes())
    whole, joined, of_small = outputs
    return Material(genome, vcf, whole, joined, seconds[0], redis_url, small, of_small)


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest, views: Views, material: Material) -> Iterator[Campaign]:
    """The trials of all faults whose tests have been chosen, begun."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    faults = [call.params["fault"] for call in calls if call and isinstance(call.params.get("fault"), Fault)]
    trials = int(os.environ.get("FAULTS_TRIALS", "1"))
    seed = os.environ.get("FAULTS_SEED", "8")
    results = Results(os.environ.get("FAULTS_RESULTS", ""), seed)
    begun = Campaign(faults, trials, seed, views, material, results.done(), results.keep)
    yield begun
    begun.close()
    _finished.append(begun)
    if table := os.environ.get("FAULTS_TABLE"):
        write_table(Path(table), begun)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed and what came out, whether or not all went well."""
    for campaign in _finished:
        terminalreporter.section("faults")
        terminalreporter.write_line(summary(campaign))
