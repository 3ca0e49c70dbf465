"""Snakemake for tests: that of the running environment, on the project's own workflow."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support import ROOT

SNAKEFILE = ROOT / "workflow" / "Snakefile"
CONFIG = "samples: config/samples.tsv\nassembly: demo\nreference: resources/genome.fa\n"


def command(*arguments: str, snakefile: Path = SNAKEFILE) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), *arguments]


def snakemake(
    *arguments: str,
    snakefile: Path = SNAKEFILE,
    local: bool = False,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Snakemake to its end; ``local`` puts it between private servers."""
    servers = [sys.executable, "-m", "anyvar_step", "local", "--"] if local else []
    argv = [*servers, *command(*arguments, snakefile=snakefile)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=240, env=environ)


class Running:
    """Snakemake at work, as in a terminal: Ctrl-C reaches its whole process group."""

    def __init__(
        self, *arguments: str, environ: Mapping[str, str], log: Path = Path("snakemake.log")
    ) -> None:
        self._log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command(*arguments), stdout=out, stderr=out, env=environ, start_new_session=True
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def said(self) -> str:
        return self._log.read_text()

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, seconds: float = 120) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(seconds)


def outputs(folder: Path) -> list[str]:
    """The paths of all files below the folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def text(vcf: Path) -> bytes:
    """The uncompressed VCF."""
    return gzip.decompress(vcf.read_bytes())


def lengthen(vcf: Path, times: int) -> None:
    """Repeat each record, so that its run takes a while; the VCF stays sorted."""
    lines = vcf.read_text().splitlines(keepends=True)
    vcf.write_text("".join(line if line.startswith("#") else line * times for line in lines))


def only(project: Path, *samples: str) -> None:
    """Leave only these samples in the sheet."""
    rows = "".join(f"{sample}\tvcf/{sample}.vcf\n" for sample in samples)
    (project / "config/samples.tsv").write_text("sample\tvcf\n" + rows)
