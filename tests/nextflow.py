"""The real Nextflow for tests, started by tests/tools/nextflow/nextflow, in a directory of its own."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import ROOT

LAUNCHER = ROOT / "tests" / "tools" / "nextflow" / "nextflow"
PIPELINE = ROOT / "workflow" / "nextflow"

#: The version that the tests run with unless they name another one.
NEWEST = "25.04.4"

#: On PATH as anyvar-step: the package under test, whatever is installed.
PROGRAM = f'#!/bin/sh\nexec {sys.executable} -m anyvar_step "$@"\n'


def missing_programs() -> list[str]:
    """What is not installed of what Nextflow and its launcher need."""
    return [name for name in ("java", "mvn", "ps", "bash") if shutil.which(name) is None]


@dataclass
class Nextflow:
    """Nextflow in a launch directory; ``environ`` is that of the site whose workers it uses.

    ``parser`` is v2, the strict parser that Nextflow 26.04 uses by default, or v1, the only one before 25.04.
    """

    folder: Path
    environ: dict[str, str]
    program: str = PROGRAM
    version: str = NEWEST
    parser: str = "v2"

    def __post_init__(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        anyvar_step = programs / "anyvar-step"
        anyvar_step.write_text(self.program)
        anyvar_step.chmod(0o755)
        self.environ = {
            **self.environ,
            "PATH": f"{programs}:{LAUNCHER.parent}:{os.environ['PATH']}",
            "NXF_HOME": str(self.folder / "home"),
            "NXF_ANSI_LOG": "false",
            "NXF_VER": self.version,
            "NXF_SYNTAX_PARSER": self.parser,
        }

    def sheet(self, *vcfs: Path, header: str = "sample,vcf") -> Path:
        """A sample sheet with one row for each VCF, named by its stem."""
        path = self.folder / "samples.csv"
        path.write_text("\n".join([header, *(f"{vcf.stem},{vcf}" for vcf in vcfs)]) + "\n")
        return path

    @contextlib.contextmanager
    def running(self, *arguments: object, pipeline: Path = PIPELINE) -> Iterator[subprocess.Popen[str]]:
        """``nextflow run`` of the pipeline with these arguments; a trace is written. Ended with the block."""
        options = [str(argument) for argument in arguments]
        process = subprocess.Popen(
            [str(LAUNCHER), "run", str(pipeline), *options, "-with-trace", "trace.txt"],
            env=self.environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)

    def run(self, *arguments: object, pipeline: Path = PIPELINE) -> subprocess.CompletedProcess[str]:
        """The same to its end; stdout holds all that was said."""
        (self.folder / "trace.txt").unlink(missing_ok=True)  # Nextflow adds to an older one, or refuses
        with self.running(*arguments, pipeline=pipeline) as process:
            out, _ = process.communicate(timeout=150)
        return subprocess.CompletedProcess(process.args, process.returncode, out)

    def trace(self) -> list[dict[str, str]]:
        """The rows of the last run's trace: one for each attempt at each task."""
        with (self.folder / "trace.txt").open(newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))

    def attempts(self, sample: str) -> list[str]:
        """The exit codes of the attempts at a sample's tasks, in order."""
        rows = [row for row in self.trace() if row["name"].endswith(f"({sample})")]
        return [row["exit"] for row in sorted(rows, key=lambda row: int(row["task_id"]))]

    def made(self, folder: str = "results") -> list[str]:
        """The files below a folder of the launch directory."""
        root = self.folder / folder
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
