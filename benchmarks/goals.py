"""What the speed and memory of anyvar-step should be, and whether the kept tables say that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common import Table


@dataclass(frozen=True)
class Goal:
    """A number of a table, by the table's name and the beginnings of its row and column, and its bound.

    ``least`` says whether the number has to be the bound at least, or at most.
    """

    what: str
    table: str
    row: str
    column: str
    bound: float
    least: bool = True


GOALS = (
    Goal("gz to gz, level 6, × vrs-annotate", "annotators", "ours, gz to gz, level 6", "× vrs-annotate", 180),
    Goal(
        "gz to gz, level 6, × `bcftools view -Oz`",
        "annotators",
        "ours, gz to gz, level 6",
        "× bcftools",
        1.6,
    ),
    Goal("text to text, × vrs-annotate", "annotators", "ours, text to text", "× vrs-annotate", 110),
    Goal("identifiers alone, × gtars-vrs", "identifiers", "ours, native engine", "× gtars-vrs", 3),
    Goal("two threads, × one, by the clock, gz to gz", "threads", "ours, gz to gz, level 6", "ratio", 1.6),
    Goal("end to end, % of the bare pipeline's records/s", "end_to_end", "step", "throughput", 85),
    Goal("60,000 contigs, × bcftools' time", "contigs", "`anyvar-step", "× bcftools", 2.5, least=False),
    Goal("two workers, × one", "scaling", "2", "× one worker", 1.7),
    Goal("500 samples, × bcftools", "samples", "500", "ratio", 2.2),
    Goal("2,500 samples, × bcftools", "samples", "2500", "ratio", 2.2),
    Goal(
        "register in empty Postgres tables, records/s", "store", "ours, Postgres|empty", "records/s", 15_000
    ),
    Goal("the same with all rows there, records/s", "store", "ours, Postgres|full", "records/s", 45_000),
    Goal("register, × AnyVar's worker", "store", "ours × AnyVar's worker", "records/s", 25),
    Goal("`--help`, seconds", "start_up", "`anyvar-step --help`", "seconds", 0.15, least=False),
    Goal(
        "a step of its own, CPU seconds",
        "start_up",
        "`anyvar-step annotate`",
        "CPU seconds",
        0.5,
        least=False,
    ),
    Goal("a worker's private memory, MB", "memory", "--via celery", "worker", 150, least=False),
)


def goals(tables: Mapping[str, Table]) -> Table:
    """Each goal whose number was measured, beside that number."""
    rows: list[list[object]] = []
    for goal in GOALS:
        measured = found(tables[goal.table], goal) if goal.table in tables else None
        if measured is not None:
            reached = measured >= goal.bound if goal.least else measured <= goal.bound
            sign = "≥" if goal.least else "≤"
            rows.append([goal.what, f"{sign} {goal.bound:,}", measured, "yes" if reached else "no"])
    return Table("goals", ["goal", "to reach", "measured", "reached"], rows)


def found(table: Table, goal: Goal) -> float | None:
    """The goal's number; None where a competitor was not there to compare with."""
    columns = [n for n, name in enumerate(table.head) if name == goal.column]
    first, _, second = goal.row.partition("|")
    for row in table.rows:
        if columns and str(row[0]).startswith(first) and (not second or row[1] == second):
            return float(str(row[columns[0]]).rstrip("%"))
    return None
