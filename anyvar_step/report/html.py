"""One self-contained page on many runs: nothing from the network, light and dark, one small script."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from anyvar_step import __version__
from anyvar_step.models import WORK, AnnotateOptions, IngestOptions, Registered
from anyvar_step.report.samples import FailedSample, Sample, findings, mixed_versions
from anyvar_step.text import escaped

#: Kinds of ALT alleles in the order of the legend; what has no VRS identifier or changes nothing comes last.
KINDS = {
    "snv": "SNV",
    "insertion": "insertion",
    "deletion": "deletion",
    "mnv": "MNV",
    "delins": "deletion-insertion",
    "same_as_ref": "same as REF",
    "overlapping": "overlapping (*)",
    "symbolic": "symbolic",
    "breakend": "breakend",
    "missing": "missing (.)",
    "other": "other",
}
#: Kinds with a colour of their own; the others share one, and the table tells them apart.
COLOURED = 5
CAUSES = {
    "ref_mismatch": "REF differs from the reference",
    "ref_n": "REF is N, the reference has bases",
    "position": "beyond the end of the contig",
    "unknown_contig": "on a contig the reference lacks",
}
PHASES = {
    "stage": "stage",
    "queue": "queue and start-up",
    "read": "read",
    "annotate": "annotate",
    "write": "compress and write",
    "register": "register",
    "collect": "collect and index",
    "wait": "wait and work",
}


#: Distances of ticks on a clock, seconds.
CLOCK = (15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


class Part(NamedTuple):
    """A piece of a bar: where it begins and how long it is, both in percent of the scale."""

    series: int
    label: str
    value: float
    start: float
    width: float


class Bar(NamedTuple):
    """One sample's bar."""

    name: str
    total: float
    parts: list[Part]


class Chart(NamedTuple):
    """Bars on one scale; ``series`` labels their parts, ``ticks`` are values and places in percent."""

    series: list[str]
    bars: list[Bar]
    ticks: list[tuple[float, float]]


def chart(values: Mapping[str, Mapping[str, float]], series: Sequence[str], *, clock: bool = False) -> Chart:
    """The chart of ``values``, by sample and series; series that no sample has are left out of the legend.

    ``clock``: the values are seconds.
    """
    used = [label for label in series if any(parts.get(label) for parts in values.values())]
    longest = max((sum(parts.values()) for parts in values.values()), default=0.0)
    step = tick_step(longest, clock)
    scale = step * math.ceil(longest / step) if step else 1.0
    bars = []
    for name, given in values.items():
        parts, start = [], 0.0
        for label in used:
            if value := given.get(label, 0.0):
                parts.append(
                    Part(series.index(label), label, value, 100 * start / scale, 100 * value / scale)
                )
                start += value
        bars.append(Bar(name, start, parts))
    ticks = [step * number for number in range(round(scale / step) + 1)] if step else []
    return Chart(used, bars, [(tick, 100 * tick / scale) for tick in ticks])


def tick_step(longest: float, clock: bool = False) -> float:
    """A round distance of which at most five cover the longest bar: 1, 2 or 5 times a power of ten.

    Numbers are counted from 1 up; on a clock, from a minute on, it is what people count minutes and hours in.
    """
    if longest <= 0:
        return 0.0
    if clock and longest > 60:
        return float(
            next((step for step in CLOCK if longest / step <= 5), 86_400 * math.ceil(longest / 432_000))
        )
    if not clock and longest <= 5:
        return 1.0
    power = 10 ** math.floor(math.log10(longest))
    return float(next(power * part for part in (0.2, 0.5, 1, 2, 5) if longest / (power * part) <= 5))


def alleles(samples: Sequence[Sample]) -> Chart:
    """ALT alleles by kind; the rare kinds together."""
    labels = list(KINDS.values())[:COLOURED]
    values = {}
    for name, report in samples:
        known = {KINDS.get(kind, KINDS["other"]): n for kind, n in report.counts.alleles.items()}
        parts: dict[str, float] = {label: known.get(label, 0) for label in labels}
        parts["others"] = sum(report.counts.alleles.values()) - sum(parts.values())
        if any(parts.values()):
            values[name] = parts
    return chart(values, [*labels, "others"])


def errors(samples: Sequence[Sample]) -> Chart:
    """Records with VRS_Error by cause and those on unknown contigs, of the samples that have any."""
    values: dict[str, dict[str, float]] = {}
    for name, report in samples:
        parts: dict[str, float] = {CAUSES.get(cause, cause): n for cause, n in report.counts.errors.items()}
        if unknown := sum(report.counts.unknown_contigs.values()):
            parts[CAUSES["unknown_contig"]] = unknown
        if parts:
            values[name] = parts
    others = (cause for parts in values.values() for cause in parts)
    return chart(values, list(dict.fromkeys([*CAUSES.values(), *others])))


def speeds(samples: Sequence[Sample]) -> Chart:
    """Records per second of the runs that tell it."""
    label = "records per second"
    known = {name: {label: r.records_per_second} for name, r in samples if r.records_per_second}
    return chart(known, [label])


def phases(samples: Sequence[Sample]) -> Chart:
    """Seconds by phase.

    The wait without the worker's work, where that is known, is time in the queue and start-up; a run with
    ``--local`` has start-up only.
    """
    values = {}
    for name, report in samples:
        seconds = dict(report.seconds)
        work = sum(seconds.get(phase, 0.0) for phase in WORK)
        seconds["queue" if work else "wait"] = max(0.0, seconds.pop("wait", 0.0) - work)
        if any(seconds.values()):
            values[name] = {PHASES.get(phase, phase): value for phase, value in seconds.items() if value}
    others = (phase for parts in values.values() for phase in parts)
    return chart(values, list(dict.fromkeys([*PHASES.values(), *others])), clock=True)


#: Contigs that a sample's details list; the others are added up.
CONTIGS = 30


#: Options as the page words them, in the order in which it lists them.
OPTIONS = {
    "for_ref": ("identifiers of REF and ALT", "identifiers of ALT"),
    "add_vrs_attributes": ("location and state of each allele", ""),
    "require_validation": ("identifiers computed anew", ""),
    "allow_async_write": ("alleles stored after the run", ""),
}


def asked_for(options: AnnotateOptions | IngestOptions) -> str:
    """What a run was asked for, in words."""
    values = options.model_dump()
    words = [yes if values[name] else no for name, (yes, no) in OPTIONS.items() if name in values]
    return ", ".join(filter(None, words)) or "nothing beyond the defaults"


def render(
    samples: Sequence[Sample],
    title: str,
    failed: Sequence[FailedSample] = (),
    *,
    folder: Path = Path(),
) -> str:
    """The page as HTML. ``failed`` are samples without a report; links count from the page's ``folder``.

    The same samples give the same bytes. The page's script is allowed by its hash alone; what a report holds
    never becomes a part of it.
    """
    environment = Environment(
        loader=PackageLoader("anyvar_step.report"),
        autoescape=True,
        finalize=lambda value: escaped(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    annotated = [sample for sample in samples if not sample.ingested]
    ingested = [sample for sample in samples if sample.ingested]
    forms = {"number": number, "seconds": seconds, "head": head, "asked_for": asked_for}
    environment.filters.update(forms)
    environment.globals.update(forms)
    script = environment.get_template("page.js").render()
    failures = list({run.name: run for run in failed}.values())
    names = [run.name for run in failures]
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        samples=samples,
        links={sample.name: _link(Path(sample.report.output), folder) for sample in samples},
        annotated=annotated,
        ingested=ingested,
        failed=[{**run._asdict(), "link": run.log and _link(run.log, folder)} for run in failures],
        tiles=[*_heads(samples, names), *_annotation(annotated), *_ingestion(ingested, bool(annotated))],
        findings=findings(samples),
        mixed=mixed_versions(samples),
        alleles=alleles(annotated),
        errors=errors(annotated),
        speeds=speeds(samples),
        phases=phases(samples),
        kinds=used_kinds(annotated),
        causes=CAUSES,
        registering=any(sample.report.registered for sample in annotated),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _link(path: Path, folder: Path) -> str:
    """A relative URL of a file for a page in ``folder``; empty where there is no such file."""
    if not path.is_file():
        return ""
    return quote(os.fsencode(os.path.relpath(path, folder)))


class Tile(NamedTuple):
    """A sum over samples in the page's head; None = not known of any."""

    label: str
    value: int | None
    bad: bool = False


def _heads(samples: Sequence[Sample], failed: Sequence[str]) -> Iterator[Tile]:
    """How many samples there are, and how many failed."""
    names = {*(sample.sample for sample in samples), *failed}
    yield Tile("sample" if len(names) == 1 else "samples", len(names))
    if failed:
        yield Tile("failed", len(set(failed)), bad=True)


def _annotation(samples: Sequence[Sample]) -> Iterator[Tile]:
    if samples:
        counts = [report.counts for _, report in samples]
        yield Tile("records", sum(each.records for each in counts))
        yield Tile("VRS identifiers", sum(each.ids for each in counts))
        yield Tile("records with VRS_Error", sum(sum(each.errors.values()) for each in counts))
        yield Tile("records on unknown contigs", sum(sum(each.unknown_contigs.values()) for each in counts))


def _ingestion(samples: Sequence[Sample], annotated: bool) -> Iterator[Tile]:
    """``annotated``: the page has annotations, too, whose records these are."""
    if samples:
        stored = Registered.total([report.registered for _, report in samples if report.registered])
        if not annotated:
            counted = [sample.report.counts.records for sample in samples if sample.counted]
            yield Tile("records", sum(counted) if counted else None)
        yield Tile("alleles registered", stored.alleles if stored else None)
        yield Tile("alleles with wrong VRS fields", stored.conflicts if stored else None)


def used_kinds(samples: Sequence[Sample]) -> dict[str, str]:
    """The kinds of alleles that any sample has, and their labels."""
    used = {kind for _, report in samples for kind, n in report.counts.alleles.items() if n}
    return {kind: label for kind, label in KINDS.items() if kind in used}


def head(contigs: dict[str, int]) -> Iterable[tuple[str, int]]:
    """The first contigs with their records, and the sum of all others."""
    items: list[Any] = list(contigs.items())
    yield from items[:CONTIGS]
    if len(items) > CONTIGS:
        yield f"{len(items) - CONTIGS:,} others", sum(records for _, records in items[CONTIGS:])


def number(value: float | None) -> str:
    """A number with thousands separated, a small fraction with three digits; a dash where it is not known."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def seconds(value: float) -> str:
    """A duration: 0.042 s, 12.3 s, 30 s, 4 min 5 s, 2 h."""
    if value < 60:
        digits = 0 if value == int(value) else 3 if value < 1 else 1
        return f"{value:.{digits}f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60:,} h"
