"""What somebody who looks at last night's runs should look at first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from anyvar_step.models import WORK
from anyvar_step.report.reading import Sample

#: A run is slow below this share of the median throughput, and only where its work took so many seconds.
SLOW, SLOW_SECONDS = 0.5, 10.0


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
        yield "nothing is known of what was met: AnyVar's worker does not count"
    elif not report.counts.records:
        yield "no records"
    speed = report.records_per_second
    work = sum(report.seconds.get(phase, 0.0) for phase in WORK)
    if speed and speed < SLOW * typical and work > SLOW_SECONDS:
        yield f"slow: {speed:,.0f} records/s, where half of the runs do {typical:,.0f} or more"


def mixed_versions(samples: Sequence[Sample]) -> list[str]:
    """Sentences on programs of which not all runs had the same version."""
    sentences = []
    programs = dict.fromkeys(program for _, report in samples for program in report.versions)
    for program in programs:
        found = {report.versions[program] for _, report in samples if program in report.versions}
        if len(found) > 1:
            sentences.append(f"{program}: {', '.join(sorted(found))}")
    return sentences
