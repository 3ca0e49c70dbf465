"""A real AnyVar 1.0.0 for tests: its web API and worker, with a SeqRepo and Postgres, in its own Python."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import Site, until


def make_seqrepo(python: Path, fasta: Path, root: Path) -> Path:
    """A SeqRepo with the FASTA's sequences as GRCh38; needs rsync on PATH, as SeqRepo's program does."""
    program = [str(python.parent / "seqrepo"), "--root-directory", str(root)]
    root.mkdir()
    for arguments in (["init", "-i", "demo"], ["load", "-i", "demo", "-n", "GRCh38", str(fasta)]):
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stderr
    return root / "demo"


@dataclass
class AnyVar:
    """One deployment on a site's queue, Redis and work dir."""

    python: Path
    site: Site
    seqrepo: Path
    storage: str

    @property
    def environ(self) -> dict[str, str]:
        """What a deployment of AnyVar sets."""
        return {
            **self.site.environ,
            "PYTHONPATH": "",
            "CELERY_BACKEND_URL": self.site.redis_url,
            "ANYVAR_STORAGE_URI": self.storage,
            "SEQREPO_DATAPROXY_URI": f"seqrepo+file://{self.seqrepo}",
        }

    @contextlib.contextmanager
    def worker(self) -> Iterator[Path]:
        """AnyVar's own worker; its log."""
        app = "anyvar.queueing.celery_worker:celery_app"
        arguments = ["celery", "-A", app, "worker", "--concurrency", "1", "--hostname", "theirs@%h"]
        arguments += ["--loglevel", "INFO"]
        with self._running("worker", arguments, r" ready\.") as log:
            yield log

    @contextlib.contextmanager
    def web(self) -> Iterator[str]:
        """AnyVar's own web API; its URL."""
        arguments = ["uvicorn", "anyvar.restapi.main:app", "--port", "0"]
        with self._running("web", arguments, r"running on (http://\S+)") as log:
            found = re.search(r"running on (http://\S+)", log.read_text())
            assert found
            yield found[1]

    @contextlib.contextmanager
    def _running(self, name: str, arguments: list[str], ready: str) -> Iterator[Path]:
        log = self.site.folder / f"anyvar-{name}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [self.python, "-m", *arguments],
                env=self.environ,
                cwd=self.site.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(
                lambda: re.search(ready, log.read_text()) or process.poll() is not None,
                120,
                f"AnyVar's {name}",
            )
            assert process.poll() is None, log.read_text()
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
