"""What somebody who looks at last night's runs should look at first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from anyvar_step.models import WORK, RunReport
from anyvar_step.report.reading import Sample

#: A run is slow below this share of the median throughput, and only where its work took so many seconds.
SLOW, SLOW_SECONDS = 0.5, 10.0


class Finding(NamedTuple):
    """Something to look at."""

    sample: str
    text: str


def findings(samples: Sequence[Sample]) -> list[Finding]:
    """All of them, in the order of the samples."""
    speeds = [report.records_per_second for _, report in samples if report.records_per_second]
    typical = median(speeds) if speeds else 0.0
    return [Finding(name, text) for name, report in samples for text in _of(report, typical)]


def _of(report: RunReport, typical: float) -> Iterator[str]:
    yield from report.notes
    if not report.counts.records:
        yield "no records"
    speed = report.records_per_second
    work = sum(report.seconds.get(phase, 0.0) for phase in WORK)
    if speed and speed < SLOW * typical and work > SLOW_SECONDS:
        yield f"slow: {speed:,.0f} records/s, where half of the runs do {typical:,.0f} or more"
    if report.registered and report.registered.conflicts:
        yield f"{report.registered.conflicts:,} alleles whose VRS fields are wrong: see the conflict log"


def mixed_versions(samples: Sequence[Sample]) -> list[str]:
    """Sentences on programs of which not all runs had the same version."""
    sentences = []
    programs = dict.fromkeys(program for _, report in samples for program in report.versions)
    for program in programs:
        found = {report.versions[program] for _, report in samples if program in report.versions}
        if len(found) > 1:
            sentences.append(f"{program}: {', '.join(sorted(found))}")
    return sentences
