"""Sections for MultiQC: custom content, files ``*_anyvar_step_mqc.json`` that it finds by their names.

The form is MultiQC's: https://docs.seqera.io/multiqc/custom_content
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from anyvar_step.report.html import KINDS, Chart, errors, phases
from anyvar_step.report.samples import FailedSample, Sample

#: All sections stand under one heading.
_PARENT = {
    "parent_id": "anyvar_step",
    "parent_name": "anyvar-step",
    "parent_description": "annotates VCFs with GA4GH VRS identifiers.",
}


def sections(samples: Sequence[Sample], failed: Sequence[FailedSample] = ()) -> dict[str, dict[str, Any]]:
    """The sections' contents by file name; a section that would be empty is left out.

    ``failed`` are samples whose run failed.
    """
    annotated = [sample for sample in samples if not sample.ingested]
    made = {
        "failed": _failed([run.name for run in failed]),
        "general": _general(samples, failed),
        "alleles": _bars("alleles", "Alleles by kind", "ALT alleles", _kinds(annotated)),
        "errors": _bars("errors", "VRS_Error and unknown contigs", "Records", _parts(errors(annotated))),
        "phases": _bars("phases", "Time by phase", "Seconds", _parts(phases(samples))),
    }
    return {f"{name}_anyvar_step_mqc.json": content for name, content in made.items() if content["data"]}


def _failed(names: Sequence[str]) -> dict[str, Any]:
    """The names in a section of their own."""
    listed = "".join(f"<li>{escape(name)}</li>" for name in dict.fromkeys(names))
    return {
        **_PARENT,
        "id": "anyvar_step_failed",
        "section_name": "Failed",
        "description": "Samples whose run failed; their logs say why.",
        "plot_type": "html",
        "data": listed and f"<ul>{listed}</ul>",
    }


def _general(samples: Sequence[Sample], failed: Sequence[FailedSample]) -> dict[str, Any]:
    """Columns of MultiQC's first table."""
    columns = {
        "run": ("Run", "Whether the sample's runs ended well", "{}"),
        "records": ("Records", "Records of the VCF", "{:,.0f}"),
        "ids": ("VRS ids", "VRS identifiers written", "{:,.0f}"),
        "errors": ("VRS_Error", "Records with VRS_Error", "{:,.0f}"),
        "unknown": ("Unknown contig", "Records on contigs that the reference lacks", "{:,.0f}"),
        "records_per_second": ("Records/s", "Records per second of the worker", "{:,.0f}"),
        "registered": ("Registered", "Alleles handed to the store", "{:,.0f}"),
        "conflicts": ("Wrong VRS fields", "Ingested alleles whose VRS fields are wrong", "{:,.0f}"),
    }
    data: dict[str, dict[str, float | str]] = {}
    for sample in samples:
        row: dict[str, float | str] = {key: value for key, value in _row(sample).items() if value is not None}
        if sample.ingested:
            data[sample.sample] = row | data.get(sample.sample, {})
        else:
            data[sample.sample] = data.get(sample.sample, {}) | row
    for run in failed:
        data.setdefault(run.name, {})["run"] = "failed"
    used = {key for row in data.values() for key in row}
    headers = {
        key: {
            "title": title,
            "description": description,
            "format": form,
            "scale": False,
            "cond_formatting_rules": {"fail": [{"s_eq": "failed"}]},
        }
        for key, (title, description, form) in columns.items()
        if key in used
    }
    # A list of columns, one dictionary each: MultiQC's form for the general statistics.
    return {
        "id": "anyvar_step_general",
        "plot_type": "generalstats",
        "pconfig": [{key: header} for key, header in headers.items()],
        "data": {name: row for name, row in data.items() if row},
    }


def _row(sample: Sample) -> dict[str, float | None]:
    """What is known of a run; a sample's annotation and its ingestion share a line."""
    report, counts = sample.report, sample.report.counts
    stored = report.registered
    row: dict[str, float | None] = {
        "records_per_second": report.records_per_second,
        "registered": stored.alleles if stored else None,
    }
    if sample.ingested:
        conflicts = stored.conflicts if stored else None
        return {**row, "records": counts.records if sample.counted else None, "conflicts": conflicts}
    unknown = sum(counts.unknown_contigs.values())
    errors = sum(counts.errors.values())
    return {**row, "records": counts.records, "ids": counts.ids, "errors": errors, "unknown": unknown}


def _bars(name: str, heading: str, unit: str, data: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """A bar graph, one bar a sample; where all bars are of one part, MultiQC's has no legend to name it."""
    identifier = f"anyvar_step_{name}"
    parts = list(dict.fromkeys(part for bar in data.values() for part in bar))
    return {
        **_PARENT,
        "id": identifier,
        "section_name": heading,
        **({"description": f"All: {escape(parts[0])}."} if len(parts) == 1 else {}),
        "plot_type": "bargraph",
        "pconfig": {"id": f"{identifier}_plot", "title": f"anyvar-step: {heading}", "ylab": unit},
        "data": {sample: dict(parts) for sample, parts in data.items()},
    }


def _kinds(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """All kinds apart: MultiQC's legend can hide what is too much."""
    return {
        name: {
            label: report.counts.alleles[kind]
            for kind, label in KINDS.items()
            if kind in report.counts.alleles
        }
        for name, report in samples
        if report.counts.alleles
    }


def _parts(chart: Chart) -> dict[str, dict[str, float]]:
    return {bar.name: {part.label: part.value for part in bar.parts} for bar in chart.bars}
