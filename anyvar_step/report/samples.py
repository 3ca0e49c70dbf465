"""The samples of a report over many runs: reading, naming, failed samples, and what needs attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pydantic import ValidationError

from anyvar_step.errors import InputNotFound, InvalidInput
from anyvar_step.models import WORK, IngestOptions, RunReport
from anyvar_step.text import escaped

#: What the name of an ingestion begins with where the same sample's annotation is on the page, too.
_INGESTED = "ingested: "
#: No count, size or duration is larger; arithmetic of charts holds to here.
_LARGEST = 1e18


class Sample(NamedTuple):
    """One VCF's run, under a name that no other run of the page has."""

    name: str
    report: RunReport

    @property
    def sample(self) -> str:
        """The sample's own name."""
        return self.name.removeprefix(_INGESTED)

    @property
    def ingested(self) -> bool:
        """Whether the run read VRS fields, and did not write them."""
        return isinstance(self.report.options, IngestOptions)

    @property
    def counted(self) -> bool:
        """Whether its counts are known: of an ingestion, AnyVar's own worker reports none."""
        return bool(self.report.worker) or not self.ingested


def read_samples(paths: Sequence[Path]) -> list[Sample]:
    """The samples in the order given, named for their report files (``results/alice.json`` is alice).

    An ingestion whose name an annotation has, too, gets a prefix; runs of one kind with the same name are
    named by their paths. Raises InputNotFound and InvalidInput.
    """
    runs = {path: Sample(escaped(path.stem), read_report(path)) for path in paths}
    names = Counter((run.name, run.ingested) for run in runs.values())
    return [
        run._replace(
            name=escaped(str(path))
            if names[run.name, run.ingested] > 1
            else _INGESTED + run.name
            if run.ingested and (run.name, False) in names
            else run.name
        )
        for path, run in runs.items()
    ]


def read_report(path: Path) -> RunReport:
    """The run report in that file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputNotFound(f"cannot read the report {path}: {error.strerror}", "Check the path") from error
    try:
        report = RunReport.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"{path} is no run report of this version: {where + ': ' if where else ''}{first['msg']}",
            "Name files that `anyvar-step annotate --report` or `ingest --report` wrote",
        ) from None
    if not all(0 <= number <= _LARGEST for number in _numbers(report.model_dump())):
        raise InvalidInput(f"{path} has a number that no run has", "Restore it, or leave it out")
    return report


def _numbers(value: object) -> Iterator[float]:
    """All numbers in a report's contents."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _numbers(each)


#: A run is slow below this share of the median throughput, and only where its work took so many seconds.
SLOW, SLOW_SECONDS = 0.5, 10.0


#: Bytes at the end of a log in which the failure's message is looked for.
_LOG_END = 1 << 16
#: How our messages begin in a log, as text.
_MESSAGE = "anyvar-step: "


class FailedSample(NamedTuple):
    """A sample whose run failed: its log, if one is named, and the last message of ours in it."""

    name: str
    log: Path | None = None
    message: str = ""

    @classmethod
    def parse(cls, text: str) -> FailedSample:
        """From NAME, or NAME=LOG where LOG is a file; a log that cannot be read has no message."""
        name, found, path = text.rpartition("=")
        log = Path(path)
        if not (found and name and log.is_file()):
            return cls(text)
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _LOG_END))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return cls(name, log)
        said = [line.removeprefix(_MESSAGE) for line in lines if line.startswith(_MESSAGE)]
        return cls(name, log, said[-1] if said else "")


class Finding(NamedTuple):
    """Something to look at."""

    sample: str
    text: str


def findings(samples: Sequence[Sample]) -> list[Finding]:
    """All of them, in the order of the samples."""
    typical = {ingested: _typical(samples, ingested) for ingested in (False, True)}
    return [
        Finding(sample.name, text) for sample in samples for text in _of(sample, typical[sample.ingested])
    ]


def _typical(samples: Sequence[Sample], ingested: bool) -> float:
    """The median throughput of annotations, or of ingestions, which are another kind of work."""
    found = (sample.report.records_per_second for sample in samples if sample.ingested == ingested)
    speeds = [speed for speed in found if speed]
    return median(speeds) if speeds else 0.0


def _of(sample: Sample, typical: float) -> Iterator[str]:
    report = sample.report
    yield from report.notes
    if not sample.counted:
        yield "counts are not known: AnyVar's own worker does not report them"
    elif not report.counts.records:
        yield "no records"
    speed = report.records_per_second
    work = sum(report.seconds.get(phase, 0.0) for phase in WORK)
    if speed and speed < SLOW * typical and work > SLOW_SECONDS:
        yield f"slow: {speed:,.0f} records/s, where half of the runs do {typical:,.0f} or more"


def mixed_versions(samples: Sequence[Sample]) -> list[str]:
    """Sentences on programs of which not all runs had the same version. Both engines give the same ids."""
    sentences = []
    programs = dict.fromkeys(program for _, report in samples for program in report.versions)
    for program in programs:
        if program == "engine":
            continue
        found = {report.versions[program] for _, report in samples if program in report.versions}
        if len(found) > 1:
            sentences.append(f"{program}: {', '.join(sorted(found))}")
    return sentences
