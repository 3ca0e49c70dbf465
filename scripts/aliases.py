"""Writes the names of the human assemblies' sequences into anyvar_step/reference/assemblies.tsv.

    python scripts/aliases.py

The source is bioutils (biocommons, Apache-2.0), which holds NCBI's assembly reports as JSON. ``make aliases``
installs it and calls this.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from bioutils.assemblies import get_assembly

TARGET = Path(__file__).resolve().parent.parent / "anyvar_step" / "reference" / "assemblies.tsv"
#: The newest patch release of each: a patch adds sequences, and changes none.
ASSEMBLIES = ("GRCh37.p13", "GRCh38.p14", "T2T-CHM13v2.0")


def rows() -> list[str]:
    """Assembly, bases, and all names of a sequence: GenBank's, RefSeq's, its own, UCSC's."""
    found = []
    for name in ASSEMBLIES:
        assembly = get_assembly(name)
        for sequence in assembly["sequences"]:
            given = (sequence["genbank_ac"], sequence["refseq_ac"], sequence["name"], *sequence["aliases"])
            names = dict.fromkeys(each for each in given if each and each != "na")
            found.append("\t".join((name, str(sequence["length"]), *names)))
    return found


if __name__ == "__main__":
    source = f"# made by scripts/aliases.py from bioutils {version('bioutils')} (NCBI assembly reports)"
    TARGET.write_text("\n".join([source, "# assembly\tbases\tnames …", *rows()]) + "\n", encoding="utf-8")
