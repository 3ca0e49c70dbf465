"""Shows what the demo made: some annotated records, the counts of each report, and where the report page is.

python show.py FOLDER
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path


def kind_of(ref: str, alt: str) -> str:
    """What the change is, as far as the lengths tell."""
    if not alt.isalpha():
        return "several or symbolic alleles"
    return "substitution" if len(ref) == len(alt) else "insertion" if len(ref) < len(alt) else "deletion"


def show_records(path: Path) -> None:
    """Print the first record of each kind, one VRS field a line."""
    print(f"\n{path}")
    seen: set[str] = set()
    with gzip.open(path, "rt", encoding="ascii") as vcf:
        for fields in (line.split("\t") for line in vcf if not line.startswith("#")):
            kind = kind_of(*fields[3:5])
            if kind not in seen:
                seen.add(kind)
                print(f"  {fields[0]}:{fields[1]} {fields[3]} -> {fields[4]}   {kind}")
                print(
                    "".join(f"      {item}\n" for item in fields[7].split(";") if item[:4] == "VRS_"), end=""
                )


def show_reports(folder: Path) -> None:
    """Print one line a sample."""
    print(f"\n{folder}")
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        counts = report["counts"]
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts["alleles"].items()))
        errors = sum(counts["errors"].values())
        print(f"  {path.stem}: {counts['records']} records, {counts['ids']} ids, {errors} with VRS_Error")
        print(f"      {kinds}")


if __name__ == "__main__":
    results = Path(sys.argv[1]) / "results"
    show_records(min((results / "annotated").glob("*.vcf.gz")))
    show_reports(results / "reports")
    print(
        f"\nThe report page of all samples, for a browser:\n  {(results / 'summary.html').resolve().as_uri()}"
    )
