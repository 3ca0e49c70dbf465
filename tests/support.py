"""What tests share: a made-up genome and VCFs that agree with it, and a site with a queue of its own."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length={length}>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
)


def write_genome(path: Path, length: int = 200_000, seed: int = 1) -> Path:
    """A FASTA with one contig, chr1."""
    sequence = "".join(random.Random(seed).choices("ACGT", k=length))
    lines = [sequence[i : i + 60] for i in range(0, length, 60)]
    path.write_text(">chr1\n" + "\n".join(lines) + "\n")
    return path


def write_vcf(path: Path, genome: Path, records: int = 200, seed: int = 1) -> Path:
    """A sorted one-sample VCF of SNVs, insertions and deletions that agree with the genome."""
    sequence = "".join(genome.read_text().split("\n")[1:])
    draw = random.Random(seed)
    lines = []
    for position in sorted(draw.choices(range(1, len(sequence) - 20), k=records)):
        ref = sequence[position - 1 : position - 1 + draw.choice((1, 1, 1, 1, 3))]
        alt = draw.choice([base for base in "ACGT" if base != ref[0]])
        alt = draw.choice((alt, alt, ref[0] + "AC")) if len(ref) == 1 else ref[0]
        lines.append(f"chr1\t{position}\t.\t{ref}\t{alt}\t50\tPASS\tDP=9\tGT\t0/1\n")
    path.write_text(HEADER.format(length=len(sequence)) + "".join(lines))
    return path


def skip(untested: str, absent: str) -> NoReturn:
    """Skip a test for what is absent here; in CI, where all of it is installed, the test fails."""
    import pytest  # here, since benchmarks use this module, too

    if os.environ.get("CI") == "true":
        pytest.fail(absent)
    pytest.skip(f"{untested}: {absent}")


def free_ports(number: int) -> list[int]:
    """Ports of this host that nobody listens on."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in found]


def until(condition: Callable[[], object], seconds: float = 100.0, what: str = "the condition") -> None:
    """Return as soon as the condition holds; fail after so many seconds, which only bound a hang."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s"
        time.sleep(0.02)


@contextlib.contextmanager
def held(worker: subprocess.Popen[str]) -> Iterator[None]:
    """Keep a worker's processes from going on while the block lasts; their claim lapses after 20 s."""
    os.killpg(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(worker.pid, signal.SIGCONT)


_started: list[subprocess.Popen[str]] = []


def end_leftover_steps() -> None:
    """Kill what a failed test left running, so that it fails alone."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass
class Api:
    """A web API that is serving."""

    url: str
    process: subprocess.Popen[str]


def heeding_modes() -> tuple[str, ...]:
    """What to put before a command so that file modes bind it, whoever runs the tests."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


#: For runs that are disturbed while they are at work: the compiled engine would be done too soon.
LONG_RUNS = {"ANYVAR_STEP_ENGINE": "python"}


@dataclass
class Site:
    """One deployment: a work dir, a queue of its own on a shared Redis, and processes to clean away."""

    folder: Path
    redis_url: str
    genome: Path
    extra: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.work_dir = self.folder / "work"
        self.work_dir.mkdir(parents=True)
        self.queue = f"q-{self.folder.name}-{random.getrandbits(48):x}"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of steps and workers at this site."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANYVAR_", "CELERY_", "SEQREPO_"))}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "CELERY_BROKER_URL": self.redis_url,
            "CELERY_TASK_DEFAULT_QUEUE": self.queue,
            "ANYVAR_VCF_ASYNC_WORK_DIR": str(self.work_dir),
            "ANYVAR_STEP_REFERENCE": f"GRCh38={self.genome}",
            "ANYVAR_STEP_LATENCY_WAIT": "5",
            **self.extra,
        }

    def start(self, *arguments: str, stdin: object = None) -> subprocess.Popen[str]:
        """``anyvar-step`` with these arguments, running; killed where it outlives the test."""
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "anyvar_step", *map(str, arguments)],
            env=self.environ,
            cwd=self.folder,
            stdin=stdin,  # type: ignore[arg-type]
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="latin-1",
            start_new_session=True,
        )
        _started.append(process)
        return process

    def run(self, *arguments: object, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """``anyvar-step`` with these arguments, to its end."""
        process = self.start(*map(str, arguments), stdin=subprocess.PIPE if input is not None else None)
        out, err = process.communicate(input, timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextlib.contextmanager
    def worker(
        self, *arguments: str, concurrency: int = 1, before: tuple[str, ...] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        """A real worker process that serves this site's queue; killed with its children at the end."""
        log = (self.folder / f"worker-{random.getrandbits(32):x}.log").open("w+")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "anyvar_step", *before),
                *("worker", "--concurrency", str(concurrency), *arguments),
            ],
            env=self.environ,
            cwd=self.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            until(lambda: " ready." in Path(log.name).read_text() or process.poll() is not None)
            assert process.poll() is None, Path(log.name).read_text()
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.close()

    @contextlib.contextmanager
    def web(self, *arguments: str, before: tuple[str, ...] = (), **environ: str) -> Iterator[Api]:
        """A real web API of this site on a free port of this host."""
        log = (self.folder / f"web-{random.getrandbits(32):x}.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "anyvar_step", *before, "serve", "--port", "0", *arguments],
            env={**self.environ, **environ},
            cwd=self.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

        def address() -> re.Match[str] | None:
            assert process.poll() is None, Path(log.name).read_text()
            return re.search(r"running on (http://\S+)", Path(log.name).read_text())

        try:
            # With several processes the address is said before one of them listens.
            until(lambda: address() and "startup complete" in Path(log.name).read_text(), what="a web API")
            found = address()
            assert found
            yield Api(found[1], process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.close()

    def left_over(self) -> list[Path]:
        """All files and folders in the work dir but the day folders themselves."""
        while True:
            # A folder may be renamed while it is being listed.
            with contextlib.suppress(FileNotFoundError):
                return sorted(path for path in self.work_dir.rglob("*") if path.parent != self.work_dir)


def stored(state: Any, run_id: str, status: str, result: object = None) -> None:
    """Store a run's state as Celery's worker does: whatever stood there before, for two hours."""
    from anyvar_step.models import State
    from anyvar_step.runs.keys import meta_key
    from anyvar_step.runs.state import encode_meta

    state._redis.set(meta_key(run_id), encode_meta(run_id, State(status), result), ex=7200)
