"""Many steps at once on one host: processes of their own, forked from one that has loaded the program.

    python crowd.py FOLDER COUNT

runs ``anyvar-step annotate FOLDER/<n>.vcf -o FOLDER/<n>.out.vcf`` for n below COUNT, all at the same time,
each with its messages in FOLDER/<n>.err, and prints a JSON list of their exit codes. What they share of the
loaded program they share in memory, too; started one by one, 500 of them would need minutes of CPU time for
their imports alone.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

# All that a step imports on its way, so that it is loaded before the forks.
import celery.app.control
import kombu.transport.redis

import anyvar_step.__main__
import anyvar_step.cli.annotate
import anyvar_step.cli.progress
import anyvar_step.client.celery
import anyvar_step.client.scatter
import anyvar_step.client.step
import anyvar_step.settings


def step(folder: Path, number: int) -> None:
    """One step, in a process that has just been forked; does not return."""
    out = os.open(folder / f"{number}.err", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(out, sys.stderr.fileno())
    sys.argv[1:] = ["annotate", str(folder / f"{number}.vcf"), "-o", str(folder / f"{number}.out.vcf")]
    try:
        anyvar_step.__main__.main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


def main(folder: Path, count: int) -> None:
    gc.freeze()
    started = {}
    for number in range(count):
        if (pid := os.fork()) == 0:
            step(folder, number)
        started[pid] = number
    codes = [-1] * count
    for _ in range(count):
        pid, status = os.wait()
        codes[started[pid]] = os.waitstatus_to_exitcode(status)
    print(json.dumps(codes))


if __name__ == "__main__":
    assert all((celery.app.control, kombu.transport.redis))
    main(Path(sys.argv[1]), int(sys.argv[2]))
