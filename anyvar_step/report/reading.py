"""Run reports from files, each under the name of its sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from anyvar_step.errors import InputNotFound, InvalidInput
from anyvar_step.models import IngestOptions, RunReport

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
        """Whether its counts are known: of an ingestion, AnyVar's own worker tells none."""
        return bool(self.report.worker) or not self.ingested


def read_samples(paths: Sequence[Path]) -> list[Sample]:
    """The samples in the order given, named for their report files (``results/alice.json`` is alice).

    Annotation and ingestion of one name are told apart; where several of either have it, their paths are the
    names. Raises InputNotFound and InvalidInput.
    """
    runs = {path: Sample(path.stem, read_report(path)) for path in paths}
    names = Counter((run.name, run.ingested) for run in runs.values())
    return [
        run._replace(
            name=str(path)
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
