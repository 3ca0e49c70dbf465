"""Faults and their trials: what is done to a run at a random moment, and what must hold when all is over.

A trial has a Redis of its own, real steps and real workers, which see the work dir each through a view of
their own that shows late what the other did (``lagging.py``), and a source of random numbers that
``FAULTS_SEED`` sets. Whatever the fault, in the end

- each step has exited with a code that is documented for that fault, and without a traceback,
- its output is byte-equal to that of an undisturbed run, or absent; where it is absent, the same call gives
  it once the fault is over,
- output directories hold outputs and their indexes only, and the work dir nothing that a sweep leaves,
- no process is left, and no key of a run stays in Redis for ever.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import redis
from servers import RedisServer
from support import Site, until

from anyvar_step.runs.sweep import SWEEP_AFTER, Liveness, sweep
from anyvar_step.runs.work_dir import WorkDir
from anyvar_step.settings import load

STDOUT = Path("-")
#: Trials at once: most of their time they wait for claims to lapse.
AT_ONCE = int(os.environ.get("FAULTS_AT_ONCE", "4"))
#: Of the trials with ``--chunks``.
CHUNKS = 4
#: Seconds that a step may take to end, whatever is done to its run; claims lapse after 20.
PATIENCE = 120
#: Where in a run's life the fault strikes, and how often of seven times.
PHASES = {"begun": 1, "staged": 1, "at work": 4, "published": 1}


@dataclass(frozen=True)
class Fault:
    """What is done to a run, in the words of the table, and the exit codes that are right then."""

    name: str
    codes: frozenset[int]
    act: Callable[[Trial], None]
    #: Exit codes with which a worker may end by itself; without any it must be there until it is killed.
    ended: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.name


def fault(name: str, *codes: int, ended: tuple[int, ...] = ()) -> Callable[[Callable[[Trial], None]], Fault]:
    """Makes a Fault of the function that does it."""
    return lambda act: Fault(name, frozenset(codes), act, frozenset(ended))


@dataclass(frozen=True)
class Views:
    """One directory, as it is and as steps and workers see it; ``told`` says how, in words."""

    real: Path
    step: Path
    worker: Path
    told: str


@dataclass(frozen=True)
class Material:
    """What all trials share: a genome, a VCF, what becomes of it undisturbed, and a Redis left in peace."""

    genome: Path
    vcf: Path
    expected: bytes
    #: What becomes of it with CHUNKS.
    joined: bytes
    seconds: float
    redis_url: str
    #: Another VCF of a few records, and what becomes of that.
    small: Path
    small_expected: bytes

    @property
    def as_text(self) -> str:
        """The expected output as a process's standard output is read: line ends are translated."""
        return self.expected.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")


@dataclass
class Call:
    """One call of ``annotate``: its output, in a directory of its own, and the code with which it exited."""

    arguments: list[str]
    out: Path
    process: subprocess.Popen[str]
    #: What OUT may hold, whole.
    right: tuple[bytes, ...] = ()
    code: int | None = None
    said: str = ""
    printed: str = ""

    def end(self) -> int:
        """Wait for its end; its exit code."""
        self.printed, self.said = self.process.communicate(timeout=PATIENCE)
        self.code = self.process.returncode
        assert "Traceback" not in self.said, self.said
        return self.code


@dataclass
class Outcome:
    """How one trial ended; no ``problem`` means that it ended as promised."""

    number: int
    codes: list[int | None] = field(default_factory=list)
    #: Exit codes of workers that have ended by themselves.
    ended: list[int] = field(default_factory=list)
    seconds: float = 0.0
    swept: int = 0
    problem: str = ""


class Trial:
    """One fault done once. ``heal`` collects what ends it; it is over when ``over`` returns."""

    def __init__(
        self, folder: str, views: Views, material: Material, draw: random.Random, ended: frozenset[int]
    ) -> None:
        self.material = material
        self.draw = draw
        self.may_end, self.ended = ended, list[int]()
        self.folder = views.real / folder
        (self.folder / "redis").mkdir(parents=True)
        self.redis = RedisServer(self.folder / "redis")
        self.redis.start()
        #: A client of the Redis that has the runs' keys in the end.
        self.keys: Callable[[], contextlib.AbstractContextManager[redis.Redis]] = self.redis.client
        self.site = Site(self.folder / "site", self.redis.url, material.genome)
        seen = {kind: getattr(views, kind) / folder / "site" / "work" for kind in ("step", "worker")}
        self.site.extra = {
            "ANYVAR_VCF_ASYNC_WORK_DIR": str(seen["step"]),
            "ANYVAR_STEP_WORKER_WORK_DIR": str(seen["worker"]),
        }
        self.workers = copy.copy(self.site)
        self.workers.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": str(seen["worker"])}
        self.healing = contextlib.ExitStack()
        self.mounted = contextlib.ExitStack()
        self.calls: list[Call] = []
        self._seen = seen
        self.await_views()

    def use(self, url: str) -> None:
        """Have steps and workers that are started from now on reach Redis there."""
        self.site.redis_url = self.workers.redis_url = url

    def await_views(self) -> None:
        """Return as soon as steps and workers see the work dir."""
        until(lambda: all(path.is_dir() for path in self._seen.values()), what="a view of the work dir")

    # -- what faults are made of -------------------------------------------------------------------------

    @contextlib.contextmanager
    def worker(self, concurrency: int = 1, **extra: str) -> Iterator[subprocess.Popen[str]]:
        """A worker, which ends by itself only as the fault allows; then its processes end, too."""
        host = copy.copy(self.workers)
        host.extra = {**self.workers.extra, **extra}
        with host.worker(concurrency=concurrency) as process:
            yield process
            if (code := process.poll()) is not None:
                if code != -signal.SIGKILL:
                    self.ended.append(code)
                    assert code in self.may_end, f"a worker ended with {code}: {self.log_of_workers()}"
                until(lambda: not session(process.pid), 60, "the end of a killed worker's processes")

    def log_of_workers(self) -> str:
        """The last lines of each worker's log."""
        return "\n".join(log.read_text()[-3000:] for log in self.site.folder.glob("worker-*.log"))

    def serves(self, *workers: subprocess.Popen[str]) -> None:
        """Fail unless those workers that have not ended serve the queue: another input gets through."""
        if all(worker.poll() is not None for worker in workers):
            return
        out = self.folder / "small.vcf.gz"
        options = ("--timeout", "90", "-O", "z")
        done = self.site.run("annotate", self.material.small, "-o", out, *options)
        assert done.returncode == 0, f"the worker serves no more: {done.stderr}\n{self.log_of_workers()}"
        assert out.read_bytes() == self.material.small_expected, "another output of the next run"

    def step(self, *options: str, out: Path | None = None, chunks: int = 0, **extra: str) -> Call:
        """``annotate``, begun; its output goes to a directory of its own unless ``out`` says otherwise."""
        if out is None:
            out = self.folder / f"out-{len(self.calls)}" / "out.vcf.gz"
            out.parent.mkdir()
        arguments = ["annotate", str(self.material.vcf), "-o", str(out), "-O", "z"]
        if chunks:
            arguments += ["--chunks", str(chunks)]
        host = copy.copy(self.site)
        host.extra = {**self.site.extra, **extra}
        right = self.material.joined if chunks else self.material.expected
        call = Call(arguments, out, host.start(*arguments, *options), (right,))
        self.calls.append(call)
        return call

    def restart(self, call: Call) -> int:
        """The same call again, to its end; its exit code is the call's from now on."""
        call.process = self.site.start(*call.arguments)
        return call.end()

    def reach(self, phase: str, call: Call) -> None:
        """Return as soon as the run is in that phase, or its step has ended."""
        signs = {"begun": "", "staged": "*/[!.]*/manifest.json", "at work": "*/*/.*_outputvcf.*"}
        sign = signs.get(phase, "*/*/*_report.json")
        work = self.site.work_dir
        until(lambda: not sign or any(work.glob(sign)) or call.process.poll() is not None, what=phase)

    def received(self) -> None:
        """Return as soon as a worker has taken a run from the queue."""
        logs = self.site.folder
        until(lambda: any(" received" in log.read_text() for log in logs.glob("worker-*.log")), 60, "a run")

    def moment(self, call: Call) -> None:
        """Return at a random moment of the run's life: at the beginning of a phase, or some time into it."""
        [phase] = self.draw.choices(list(PHASES), list(PHASES.values()))
        lengths = {"begun": 1.0, "staged": 0.3, "at work": self.material.seconds, "published": 0.1}
        self.reach(phase, call)
        time.sleep(self.draw.uniform(0, lengths[phase]))

    # -- what must hold ----------------------------------------------------------------------------------

    def over(self, codes: frozenset[int], outcome: Outcome) -> None:
        """End the fault, call again what has failed, and look at what is left."""
        outcome.codes = [call.code for call in self.calls]
        self._judge(codes)
        self.healing.close()
        if failed := [call for call in self.calls if call.code != 0]:
            with self.worker():
                for call in failed:
                    assert self.restart(call) == 0, f"called again: {call.code}: {call.said}"
        self._judge(frozenset({0}))
        outcome.ended = self.ended
        if left := self.site.left_over():
            outcome.swept = len(left)
            self._sweep(left)
            assert self.site.left_over() == [], "left after a sweep"
        with self.keys() as client:
            kept = [key for key in client.scan_iter("anyvar_*") if client.ttl(key) == -1]
        assert kept == [], "keys that never expire"

    def _sweep(self, left: list[Path]) -> None:
        """Sweep as workers do, as if days had passed: files are old, and all keys of the run have expired."""
        elder = {
            "ANYVAR_VCF_ASYNC_WORK_DIR": str(self.site.work_dir),
            "CELERY_BROKER_URL": self.material.redis_url,
        }
        settings = load({**self.site.environ, **elder})
        days_ago = time.time() - SWEEP_AFTER - 60
        for path in reversed(left):
            os.utime(path, (days_ago, days_ago))
        with Liveness(settings) as liveness:
            until(liveness.settled, 90, "a Redis that is no newcomer")
        list(sweep(settings, WorkDir(self.site.work_dir)))

    def _judge(self, codes: frozenset[int]) -> None:
        for call in self.calls:
            assert call.code in codes, f"exit code {call.code}: {call.said}"
            if call.out == STDOUT:
                assert call.printed == (self.material.as_text if call.code == 0 else "")
                continue
            if call.code == 0:
                assert call.out.read_bytes() in call.right, "another output"
            wanted = {call.out.name, f"{call.out.name}.tbi"} if call.code == 0 else set()
            there = call.out.parent.iterdir() if call.out.parent.is_dir() else ()
            names = {path.name for path in there}
            assert names == wanted, f"{sorted(names)} beside OUT after exit code {call.code}: {call.said}"

    def end(self) -> None:
        """Leave no process and no mount, however the trial went."""
        for call in self.calls:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(call.process.pid, signal.SIGKILL)
            call.process.communicate()
        self.healing.close()
        self.mounted.close()
        self.redis.end()


def session(leader: int) -> list[int]:
    """The living processes of the session that this process began."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, sid = entry.read_text().rpartition(")")[2].split()[:4]
            if int(sid) == leader and state != "Z":
                found.append(int(entry.parent.name))
    return sorted(found)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a worker has forked."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


class Campaign:
    """All trials of the chosen faults, some at once; each test waits for those of its own fault.

    ``done`` are outcomes of the same campaign, interrupted before, by fault; ``keep`` gets each new one.
    """

    def __init__(
        self,
        faults: list[Fault],
        trials: int,
        seed: str,
        views: Views,
        material: Material,
        done: dict[str, dict[int, Outcome]],
        keep: Callable[[Fault, Outcome], None],
    ) -> None:
        self.seed = seed
        self.views = views
        self._material = material
        self._keep = keep
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self.outcomes: dict[Fault, list[Future[Outcome]]] = {each: [] for each in faults}
        for number in range(trials):  # one trial of each fault, then the next one of each
            for each in faults:
                known = done.get(each.name, {}).get(number)
                future = self._known(known) if known else self._pool.submit(self._try, each, number)
                self.outcomes[each].append(future)

    @staticmethod
    def _known(outcome: Outcome) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(outcome)
        return future

    def holds(self, each: Fault) -> None:
        """Fail unless all trials of that fault end as promised."""
        outcomes = [future.result() for future in self.outcomes[each]]
        bad = [f"trial {outcome.number}: {outcome.problem}" for outcome in outcomes if outcome.problem]
        assert not bad, f"FAULTS_SEED={self.seed}, {each.name}:\n" + "\n".join(bad)

    def close(self) -> None:
        """Wait for what is under way, and drop the rest."""
        self._pool.shutdown(cancel_futures=True)

    def _try(self, each: Fault, number: int) -> Outcome:
        outcome = Outcome(number)
        draw = random.Random(f"{self.seed}/{each.name}/{number}")
        begin = time.monotonic()
        trial = None
        try:
            place = f"{each.act.__module__.rpartition('.')[2]}-{each.act.__name__}-{number}"
            trial = Trial(place, self.views, self._material, draw, each.ended)
            each.act(trial)
            trial.over(each.codes, outcome)
        except Exception as error:  # whatever it is, it is this trial's outcome
            outcome.problem = f"{type(error).__name__}: {error}"
        finally:
            outcome.seconds = time.monotonic() - begin
            if trial:
                trial.end()
        self._keep(each, outcome)
        return outcome
