"""One self-contained page on many runs: no script, nothing from the network, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from anyvar_step import __version__
from anyvar_step.report import charts
from anyvar_step.report.findings import findings, mixed_versions
from anyvar_step.report.reading import Sample

#: Contigs that a sample's details list; the others are added up.
CONTIGS = 30


def render(samples: Sequence[Sample], title: str, failed: Sequence[str] = ()) -> str:
    """The page as HTML; ``failed`` names samples whose run failed. The same samples give the same bytes."""
    environment = Environment(
        loader=PackageLoader("anyvar_step.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    annotated = [sample for sample in samples if not sample.ingested]
    ingested = [sample for sample in samples if sample.ingested]
    forms = {"number": number, "seconds": seconds, "size": size, "head": head}
    environment.filters.update(forms)
    environment.globals.update(forms)
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        samples=samples,
        annotated=annotated,
        ingested=ingested,
        failed=list(dict.fromkeys(failed)),
        tiles=[*_heads(samples, failed), *_annotation(annotated), *_ingestion(ingested, bool(annotated))],
        findings=findings(samples),
        mixed=mixed_versions(samples),
        alleles=charts.alleles(annotated),
        errors=charts.errors(annotated),
        speeds=charts.speeds(samples),
        phases=charts.phases(samples),
        kinds=used_kinds(annotated),
        causes=charts.CAUSES,
        registering=any(report.registered for _, report in annotated),
    )


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
        stored = [report.registered for _, report in samples if report.registered]
        if not annotated:
            counted = [sample.report.counts.records for sample in samples if sample.counted]
            yield Tile("records", sum(counted) if counted else None)
        yield Tile("alleles registered", sum(each.alleles for each in stored) if stored else None)
        yield Tile(
            "alleles with wrong VRS fields", sum(each.conflicts for each in stored) if stored else None
        )


def used_kinds(samples: Sequence[Sample]) -> dict[str, str]:
    """The kinds of alleles that any sample has, and their labels."""
    used = {kind for _, report in samples for kind, n in report.counts.alleles.items() if n}
    return {kind: label for kind, label in charts.KINDS.items() if kind in used}


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


def size(value: float) -> str:
    """Bytes in a unit that people read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
