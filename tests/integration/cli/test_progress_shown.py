"""Progress of real runs on a terminal and in a log; standard output stays the VCF's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from support import Site, until, write_vcf

from anyvar_step.cli.progress import Bar
from anyvar_step.models import Progress, RunStatus, State

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class OnTerminal:
    """``anyvar-step`` whose standard error is a terminal of 100 columns; ``said`` is what it wrote there."""

    def __init__(self, site: Site, *arguments: object, **environ: str) -> None:
        self._ours, theirs = pty.openpty()
        self._said = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "anyvar_step", *map(str, arguments)],
            env={**site.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environ},
            cwd=site.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while some := os.read(self._ours, 65536):
                self._said += some

    @property
    def said(self) -> str:
        return self._said.decode()

    def end(self) -> tuple[int, bytes]:
        """Exit code and standard output."""
        out, _ = self.process.communicate(timeout=120)
        self._reader.join(30)
        os.close(self._ours)
        return self.process.returncode, out


def test_a_terminal_shows_the_place_in_the_queue_and_then_the_work(site: Site, vcf: Path) -> None:
    for seed in (2, 3):
        other = write_vcf(site.folder / f"{seed}.vcf", site.genome, seed=seed)
        assert site.run("submit", other).returncode == 0
    step = OnTerminal(site, "annotate", vcf, "-o", "-")
    until(lambda: "queued behind 2" in step.said, 60, "the place in the queue")
    with site.worker():
        code, out = step.end()
    assert code == 0, step.said
    assert out.startswith(b"##fileformat=VCF")
    assert out.count(b"\n") == vcf.read_bytes().count(b"\n") + out.count(b"##INFO=<ID=VRS_") + 2
    last = ESCAPES.sub("", step.said).rstrip().rsplit("\r", 1)[-1]
    assert re.fullmatch(r"sample\.vcf: GRCh38, 200 records, \d+ identifiers, \d+ errors in [0-9.]+ s", last)
    assert COLOUR.search(step.said)


def test_a_run_that_ended_well_leaves_one_line_on_a_terminal(served: Site, vcf: Path) -> None:
    for arguments in ((), ("--progress", "plain")):
        step = OnTerminal(served, "annotate", vcf, "-o", "out.vcf", *arguments)
        assert step.end()[0] == 0
        last = ESCAPES.sub("", step.said).rstrip().splitlines()[-1].rsplit("\r", 1)[-1]
        assert re.search(r"sample\.vcf: GRCh38, 200 records, .* errors in [0-9.]+ s -> out\.vcf", last)


def test_no_color_takes_the_colours_away_and_leaves_the_line(served: Site, vcf: Path) -> None:
    step = OnTerminal(served, "annotate", vcf, "-o", "-", NO_COLOR="1")
    assert step.end()[0] == 0
    assert re.search(r"200 records, .* in [0-9.]+ s", step.said)
    assert not re.search(r"\x1b\[[0-9;]*(3|9)[0-9]m", step.said)


def test_a_failure_takes_the_line_away_and_leaves_the_reason(served: Site, genome: Path) -> None:
    bad = served.folder / "bad.vcf"
    bad.write_text(
        write_vcf(served.folder / "good.vcf", genome).read_text() + "chr1\tx\t.\tA\tC\t.\t.\t.\tGT\t0/1\n"
    )
    step = OnTerminal(served, "annotate", bad, "-o", "out.vcf")
    assert step.end()[0] == 65
    after = step.said.rpartition("\x1b[2K")[2]
    assert re.fullmatch(r"anyvar-step: bad\.vcf line 205: .*\s+", after)


@pytest.mark.parametrize("arguments", [("-q",), ("--progress", "none")])
def test_nothing_is_shown_to_those_who_want_nothing(
    served: Site, vcf: Path, arguments: tuple[str, ...]
) -> None:
    step = OnTerminal(served, "annotate", *arguments, vcf, "-o", "-")
    assert step.end()[0] == 0
    assert step.said == ""


def test_what_is_logged_meanwhile_stands_in_lines_of_its_own(served: Site, vcf: Path) -> None:
    step = OnTerminal(served, "annotate", "-v", vcf, "-o", "out.vcf")
    assert step.end()[0] == 0
    assert re.search(r"anyvar-step: run [0-9a-f]{32}-\d+ submitted\s*\r\n", COLOUR.sub("", step.said))


def test_json_lines_for_machines(served: Site, vcf: Path) -> None:
    done = served.run("--log-format", "json", "annotate", vcf, "-o", "j.vcf", "--progress", "plain", "-v")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["message"].startswith("sample.vcf: GRCh38, 200 records, ")
    assert {"submitted", "collecting"} <= {line["message"].rpartition(" ")[2] for line in lines}
    run_ids = {line["run_id"] for line in lines if "run_id" in line}
    assert len(run_ids) == 1


def test_a_workers_log_is_json_lines_that_name_their_run(site: Site, vcf: Path) -> None:
    with site.worker("--log-format", "json"):
        run_id = site.run("submit", vcf).stdout.strip()
        assert site.run("wait", run_id).returncode == 0
        [log] = site.folder.glob("worker-*.log")
        until(lambda: " succeeded in " in log.read_text(), what="the run's end in the log")
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [line["run_id"] for line in lines if " received" in line["message"]] == [run_id]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


def test_a_failure_is_a_json_line_too(served: Site) -> None:
    done = served.run("annotate", "gone.vcf", "-o", "j.vcf", "--log-format", "json")
    assert done.returncode == 66
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] == "error"
    assert "gone.vcf" in line["message"]


def test_wrong_usage_is_a_json_line_too(served: Site) -> None:
    for arguments in (("annotate", "--log-format", "json"), ("--log-format=json", "annotate", "--bogus")):
        done = served.run(*arguments)
        assert done.returncode == 2
        [line] = [json.loads(line) for line in done.stderr.splitlines()]
        assert line["level"] == "error"


@pytest.mark.parametrize(("columns", "words"), [(100, True), (60, True), (40, True), (30, False)])
def test_a_narrow_terminal_keeps_the_percentage_before_the_words(columns: int, words: bool) -> None:
    console = Console(file=io.StringIO(), width=columns, force_terminal=True)
    with Bar("a-sample-with-a-long-name.vcf.gz", lambda _: None, None, console).live() as watch:
        progress = Progress(records=1_234_567, fraction=0.57, seconds=100.0)
        watch(RunStatus(run_id="r", status_code=202, status=State.PROGRESS, progress=progress))
    assert isinstance(console.file, io.StringIO)
    last = ESCAPES.sub("", console.file.getvalue()).rstrip().splitlines()[-1]
    assert "━━" in last
    assert "57 %" in last
    assert ("1,234,567" in last) == words
    assert len(last.rsplit("\r", 1)[-1]) <= columns


def test_an_interrupted_step_leaves_the_terminal_as_it_was(site: Site, vcf: Path) -> None:
    step = OnTerminal(site, "annotate", vcf, "-o", "out.vcf")
    until(lambda: "waiting for its worker" in step.said, 60, "the line")
    step.process.send_signal(signal.SIGINT)
    assert step.end()[0] == 130
    assert step.said.rfind("\x1b[?25h") > step.said.rfind("\x1b[?25l"), "the cursor is shown again"
    assert step.said.rstrip().endswith("anyvar-step: interrupted by SIGINT. The run was revoked")
