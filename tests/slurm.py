"""A private Slurm for tests: munged, slurmctld and slurmd of one node, without systemd and without root.

Ports, folders and the munge key are its own; the three daemons end with the process that started them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support import free_ports, until

#: What the tests call; Debian's packages slurm-wlm, slurm-client and munge have them.
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
#: Seconds that a job of the lower partition has left when another one takes its place.
GRACE_SECONDS = 8
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")

CONFIG = """\
ClusterName=anyvar
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory={memory}
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={grace}
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    """The programs of Slurm and munge that are not installed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@dataclass
class Slurm:
    """A running one-node Slurm. ``environ`` leads its clients to it: SLURM_CONF, and programs on PATH.

    Snakemake's jobstep drops SLURM_CONF from srun's environment, so the programs in ``bin`` put it back.
    """

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }

    def run(self, *command: object, **more: str) -> str:
        """What a client prints; ``more`` is put into its environment."""
        argv = [str(part) for part in command]
        done = subprocess.run(argv, env={**self.environ, **more}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, CANCELLED, TIMEOUT …, also of a job that has ended."""
        return self.run("squeue", "--noheader", "--jobs", job, "--states", "all", "--format", "%T")

    def restarts(self, job: str) -> int:
        """How often Slurm has started the job again."""
        return int(self._shown(job, "Restarts"))

    def job_id(self, job: str) -> str:
        """The number of a task of an array, as its processes know it."""
        return self._shown(job, "JobId")

    def _shown(self, job: str, key: str) -> str:
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return next(word for word in shown.split() if word.startswith(f"{key}=")).partition("=")[2]

    def exit_code(self, job: str) -> int:
        """The exit code of an ended job's script, 128+n where signal n ended it."""
        code, number = map(int, self._shown(job, "ExitCode").split(":"))
        return code or (128 + number if number else 0)

    def ended(self, job: str, seconds: float = 150) -> str:
        """The state in which the job ended; fails after so many seconds."""
        until(lambda: self.state(job) not in ALIVE, seconds, f"the end of job {job}")
        return self.state(job)

    def start(self) -> None:
        """Start the daemons and return once the node takes jobs."""
        self._write_config()
        munge = ["munged", "--foreground", "--force", "--num-threads=2"]
        places = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self._spawn(*munge, *(f"--{option}={self.folder}/munge.{name}" for option, name in places.items()))
        self._await("munge", "--no-input", f"--socket={self.folder}/munge.socket")
        self._spawn("slurmctld", "-D", "-i")
        self._await("scontrol", "ping", saying="is UP")
        self._spawn("slurmd", "-D")
        self._await("sinfo", "--noheader", "--format", "%T", saying="idle")

    def stop(self) -> None:
        """Cancel what still runs, then end the daemons, the last one started first."""
        if len(self.daemons) == 3:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.run("scancel", "--full", "--signal=KILL", "--user", _user())
                self.run("scancel", "--user", _user())
                until(lambda: not self.run("squeue", "--noheader", "--states", "PD,R,CG"), 30, "Slurm's end")
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def lose_node(self, job: str) -> None:
        """Kill slurmd and all processes of the job at once, as a power cut does; the node is down then."""
        slurmd = self.daemons.pop()
        slurmd.kill()
        slurmd.wait()
        for number in self._processes(job):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName={self.node}", "State=DOWN", "Reason=lost")

    def return_node(self) -> None:
        """Start slurmd again, take the node back, and return once it has the request to end the lost jobs.

        The controller repeats that message until the node answers; it would end a job of the same number.
        """
        self._spawn("slurmd", "-D", "-vvv")
        with contextlib.suppress(AssertionError):  # a node that has registered by now is back already
            self.run("scontrol", "update", f"NodeName={self.node}", "State=RESUME")
        request = "Finish processing RPC: REQUEST_TERMINATE_JOB"
        until(
            lambda: request in (self.folder / "slurmd.out").read_text(errors="replace"),
            60,
            "the node's return",
        )

    @property
    def node(self) -> str:
        return socket.gethostname().partition(".")[0]

    def log(self) -> str:
        """The end of the daemons' logs, for the message of a failed test."""
        texts = [(path.name, path.read_text(errors="replace")) for path in sorted(self.folder.glob("*.out"))]
        return "\n".join(f"== {name}\n{text[-3000:]}" for name, text in texts)

    def _processes(self, job: str) -> list[int]:
        """The step managers and programs of a job of this Slurm; another one has jobs of the same number."""
        ours = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                variables = (process / "environ").read_bytes().split(b"\0")
                of_job = command.startswith(f"slurmstepd: [{job}.".encode())
                if ours in variables and (of_job or f"SLURM_JOB_ID={job}".encode() in variables):
                    found.append(int(process.name))
        return found

    def _write_config(self) -> None:
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        config = self.folder / "slurm.conf"
        megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        ports = free_ports(2)
        config.write_text(
            CONFIG.format(
                host=self.node,
                folder=self.folder,
                user=_user(),
                controller_port=ports[0],
                node_port=ports[1],
                grace=GRACE_SECONDS,
                memory=megabytes * 8 // 10,
            )
        )
        for name in PROGRAMS[3:]:
            program = self.folder / "bin" / name
            program.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)

    def _spawn(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
        assert path is not None, f"{program} is not installed"
        with (self.folder / f"{program}.out").open("ab") as out:
            self.daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", path, *arguments],
                    env=self.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )

    def _await(self, *command: str, saying: str = "") -> None:
        def answers() -> bool:
            assert all(daemon.poll() is None for daemon in self.daemons), self.log()
            done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=30)
            return done.returncode == 0 and saying in done.stdout

        until(answers, 60, f"an answer of {command[0]}")


@contextlib.contextmanager
def private_slurm() -> Iterator[Slurm]:
    """A running Slurm, gone at the end with everything that ran under it."""
    # A short path: the sockets of munge and of Slurm's steps have to fit into 108 bytes.
    slurm = Slurm(Path(tempfile.mkdtemp(prefix="anyvar-slurm-", dir="/tmp")))
    slurm.folder.chmod(0o755)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(slurm.folder, ignore_errors=True)


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
