"""What a waiting step says of its run, and when."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyvar_step.cli import progress
from anyvar_step.cli.logs import JsonLines
from anyvar_step.cli.progress import Ahead, Lines, described, kind_for, summary
from anyvar_step.errors import Unavailable
from anyvar_step.models import (
    AnnotateOptions,
    Counts,
    IngestOptions,
    Progress,
    Registered,
    RunReport,
    RunStatus,
)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(progress.time, "monotonic", ours)
    return ours


@pytest.fixture
def level() -> Iterator[None]:
    """The logger as it was."""
    yield
    logging.getLogger(progress.__name__).setLevel(logging.NOTSET)


def status(state: str = "PROGRESS", code: int = 202, run_id: str = "r", **at: Any) -> RunStatus:
    found = Progress(**at) if at else None
    return RunStatus(run_id=run_id, status_code=code, status=state, progress=found)


@pytest.mark.parametrize(
    ("given", "ahead", "said"),
    [
        (status("SENT"), None, "waiting for its worker"),
        (status("SENT"), 0, "waiting for its worker"),
        (status("SENT"), 1200, "queued behind 1,200"),
        (status("STARTED"), None, "started"),
        (status(records=0, seconds=0.5), None, "0 records"),
        (status(records=9000, fraction=0.25, seconds=30), None, "9,000 records, 300/s, 0:01:30 left"),
        (status("SUCCESS", 200), None, "collecting"),
    ],
)
def test_a_status_in_words(given: RunStatus, ahead: int | None, said: str) -> None:
    assert described(given, ahead) == said


def test_the_queue_is_asked_rarely_and_what_comes_later_does_not_count(clock: Clock) -> None:
    lengths = [4, 9, 2, 7]
    ahead = Ahead(lambda: lengths.pop(0))
    assert [ahead("r"), ahead("r")] == [3, 3]
    clock.now += progress.ASK_QUEUE
    assert ahead("r") == 3, "five runs were queued behind ours"
    clock.now += progress.ASK_QUEUE
    assert ahead("r") == 1
    assert ahead("again") == 6, "a new attempt stands at the end of the queue"


def test_a_queue_that_cannot_be_asked_is_no_failure() -> None:
    def away() -> int:
        raise Unavailable("no Redis")

    assert Ahead(away)("r") is None
    assert Ahead(lambda: None)("r") is None


def test_a_log_file_gets_a_line_every_so_often_and_none_for_a_quick_run(
    clock: Clock, caplog: pytest.LogCaptureFixture, level: None
) -> None:
    lines = Lines("in.vcf", Ahead(lambda: None), eager=False)
    lines(status("SENT"))
    lines.done(None)
    assert caplog.messages == []
    for _ in range(130):
        clock.now += 0.5
        lines(status(records=50, fraction=0.5, seconds=10))
    lines.done(None)
    line = "in.vcf: 50 records, 5/s, 0:00:10 left, 50 %"
    assert caplog.messages == [line, line, "in.vcf: ended after 0:01:05"]


def test_lines_that_were_asked_for_come_with_each_change(
    clock: Clock, caplog: pytest.LogCaptureFixture, level: None
) -> None:
    lines = Lines("in.vcf", Ahead(lambda: 3), eager=True)
    for each in (status("SENT"), status("SENT"), status("STARTED"), status("SUCCESS", 200)):
        lines(each)
    assert caplog.messages == ["in.vcf: queued behind 2", "in.vcf: started", "in.vcf: collecting"]
    made = json.loads(JsonLines().format(caplog.records[0]))
    assert (made["run_id"], made["state"], made["queued_behind"]) == ("r", "SENT", 2)
    assert (made["level"], made["message"]) == ("info", "in.vcf: queued behind 2")


@pytest.mark.parametrize(
    ("asked", "root", "kind"),
    [
        ("auto", {}, "bar"),
        ("auto", {"quiet": True}, "none"),
        ("auto", {"log_format": "json"}, "plain"),
        ("none", {}, "none"),
        ("bar", {"quiet": True}, "bar"),
    ],
)
def test_what_is_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, asked: str, root: dict[str, Any], kind: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert kind_for(asked, root) == kind


def report(options: AnnotateOptions | IngestOptions, **found: Any) -> RunReport:
    return RunReport(
        run_id="r",
        input_name="in.vcf",
        input_size=1,
        input_sha256="",
        output_size=1,
        output_sha256="",
        options=options,
        seconds={},
        **found,
    )


def test_the_last_line_says_what_the_run_did() -> None:
    counts = Counts(records=1234, ids=2468, errors={"ref_n": 1, "position": 2})
    annotated = report(AnnotateOptions(assembly="GRCh37"), counts=counts)
    said = summary(annotated, 1.25, Path("a\x1b[2Jb\n.vcf"))
    assert said == r"GRCh37, 1,234 records, 2,468 identifiers, 3 errors in 1.2 s -> a\x1b[2Jb\n.vcf"
    registered = Registered(alleles=7, added=None, conflicts=1)
    ingested = report(IngestOptions(), counts=counts, registered=registered)
    assert (
        summary(ingested, 61, None) == "GRCh38, 1,234 records, 7 alleles registered, 1 conflicts in 0:01:01"
    )
    assert summary(None, 61, None) == "ended after 0:01:01"


def test_a_short_run_has_its_last_line_on_a_terminal_only(
    clock: Clock, caplog: pytest.LogCaptureFixture, level: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines("in.vcf", Ahead(lambda: None), eager=False)
    lines.done(None)
    assert caplog.messages == []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    lines.done(None)
    assert caplog.messages == ["in.vcf: ended after 0.0 s"]
