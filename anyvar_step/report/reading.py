"""Run reports from files, each under the name of its sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from anyvar_step.errors import InputNotFound, InvalidInput
from anyvar_step.models import RunReport

#: No count, size or duration is larger; arithmetic of charts holds to here.
_LARGEST = 1e18


class Sample(NamedTuple):
    """One VCF's run, under a name that no other run of the page has."""

    name: str
    report: RunReport


def read_samples(paths: Sequence[Path]) -> list[Sample]:
    """The samples in the order given, named for their report files (``results/alice.json`` is alice).

    Where several files have one name, the paths are the names. Raises InputNotFound and InvalidInput.
    """
    paths = list(dict.fromkeys(paths))
    names = Counter(path.stem for path in paths)
    return [Sample(path.stem if names[path.stem] == 1 else str(path), read_report(path)) for path in paths]


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
