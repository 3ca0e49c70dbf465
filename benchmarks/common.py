"""What benchmarks share: options, A B A B, private servers, and tables that are printed and kept as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from processes import Cost

if TYPE_CHECKING:
    from support import Site

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the package at hand, and the tests' servers

#: Where the tables are kept, by benchmark.
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Table:
    """One table, by the name under which docs/performance.md shows it."""

    name: str
    head: list[str]
    rows: list[list[object]]

    def markdown(self) -> str:
        """As Markdown."""
        lines = ["| " + " | ".join(self.head) + " |", "|" + "---|" * len(self.head)]
        lines += ["| " + " | ".join(map(_shown, row)) + " |" for row in self.rows]
        return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(
    doc: str | None,
    tables: Callable[[argparse.Namespace, Path], list[Table]],
    *,
    needs: tuple[str, ...] = (),
    **sizes: tuple[int, int],
) -> None:
    """One benchmark: read its options, measure in a folder of its own, print the tables, keep them.

    Each of ``sizes`` is an option, with its default and what it is with --small, which is for trying the
    benchmark. Measures nothing where one of the programs it ``needs`` is not on PATH; ``tables`` may give
    none for a reason that it prints.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="measure next to nothing, only to see it run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep the tables")
    for name, (normal, _) in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"[default: {normal:,}]")
    chosen = parser.parse_args()
    for name, (normal, small) in sizes.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, small if chosen.small else normal)
    name = Path(sys.argv[0]).stem
    if missing := [program for program in needs if not shutil.which(program)]:
        print(f"{name}: nothing is measured, {', '.join(missing)} is not on PATH (.ci/run installs it)")
        return
    load = [os.getloadavg()[0]]
    with folder() as where:
        found = tables(chosen, where)
    if not found:
        return
    load.append(os.getloadavg()[0])
    kept = {"machine": {**machine(), "load": load}, "tables": [asdict(table) for table in found]}
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    print("\n\n".join(table.markdown() for table in found))


def machine() -> dict[str, object]:
    """Where and when: what the numbers depend on."""
    from anyvar_step import __version__

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "anyvar-step": __version__,
    }


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one benchmark's files."""
    with tempfile.TemporaryDirectory(prefix="anyvar-step-bench-") as name:
        yield Path(name)


def alternate(rounds: int, **what: Callable[[], Cost]) -> dict[str, Cost]:
    """The median, by CPU, of ``rounds`` costs of each: measured A B A B, so that a noisy spell hits all."""
    found: dict[str, list[Cost]] = {name: [] for name in what}
    for _ in range(rounds):
        for name, act in what.items():
            found[name].append(act())
    return {name: median(costs) for name, costs in found.items()}


def median(costs: list[Cost]) -> Cost:
    """The one in the middle, by CPU."""
    middle = statistics.median_low(cost.cpu for cost in costs)
    return next(cost for cost in costs if cost.cpu == middle)


def python(code: str, *arguments: object) -> list[str]:
    """The command that runs a piece of Python with the package at hand."""
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    return [sys.executable, "-c", path + code, *map(str, arguments)]


@contextmanager
def private_site(where: Path, genome: Path) -> Iterator[Site]:
    """A work dir, a queue and a private Redis, which workers and steps of the tests' kind can use."""
    from servers import private_redis
    from support import Site

    with private_redis(where) as url:
        yield Site(where / "site", url, genome)
