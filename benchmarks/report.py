"""All tables that were kept, as one Markdown file beside them; with --docs also into docs/performance.md.

There a table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``, and the chart is docs/performance.svg.

    python benchmarks/report.py [--results DIR] [--docs]
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from common import RESULTS, ROOT, Table
from goals import goals

DOCS = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
#: Of the chart, in pixels: of all, of the names, of a bar with what is between two.
WIDTH, NAMES, BAR = 760, 300, 30


def main() -> None:
    """Read the JSON files, write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    tables, sections = {}, {}
    for path in sorted(chosen.results.glob("*.json")):
        kept = json.loads(path.read_text())
        for table in (Table(**each) for each in kept["tables"]):
            tables[table.name] = table
            sections[table.name] = f"{table.markdown()}\n\n{conditions(kept['machine'])}"
    sections["goals"] = goals(tables).markdown()
    text = "".join(f"## {name}\n\n{section}\n\n" for name, section in sections.items())
    (chosen.results / "results.md").write_text(f"# Measured\n\n{text}")
    page = filled(DOCS.read_text(), sections)
    if chosen.docs:
        DOCS.write_text(page)
        if "annotators" in tables:
            CHART.write_text(chart(tables["annotators"]))
    print(f"{len(sections)} tables: {chosen.results / 'results.md'}")


def conditions(machine: dict[str, Any]) -> str:
    """One line on where and when."""
    before, after = machine["load"]
    return (
        f"*{machine['cores']} cores of {machine['processor']}, load {before:.1f} before and {after:.1f} "
        f"after, Python {machine['python']}, anyvar-step {machine['anyvar-step']}, {machine['date']}.*"
    )


def filled(text: str, sections: dict[str, str]) -> str:
    """The page with each table in its place; a table without a place is an error."""
    for name, section in sections.items():
        place = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
        if not place.search(text):
            raise SystemExit(
                f"{DOCS} has no place for the table {name}: add <!-- {name} --> and <!-- /{name} -->"
            )
        text = place.sub(lambda match, section=section: f"{match[1]}\n\n{section}\n\n{match[2]}", text)  # type: ignore[misc]
    return text


def chart(table: Table) -> str:
    """The second column as bars, on one linear scale, as SVG."""
    rows = [(str(name).replace("`", ""), int(str(value))) for name, value, *_ in table.rows]
    most, height = max(value for _, value in rows), BAR * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" role="img" aria-label="Records per second of one core">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="10" y="20" font-weight="bold">Records per CPU second</text>',
    ]
    for number, (name, value) in enumerate(rows):
        top, width = 34 + BAR * number, max(1, round(value / most * (WIDTH - NAMES - 80)))
        color = "#1f6feb" if name.startswith("ours") else "#8b949e"
        parts += [
            f'<text x="{NAMES - 10}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{top}" width="{width}" height="{BAR - 10}" fill="{color}"/>',
            f'<text x="{NAMES + width + 6}" y="{top + 14}">{value:,}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main()
