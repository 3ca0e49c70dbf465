"""Other names of contigs: chr1 and 1, chrM and MT, and what a table of aliases says (RefSeq, GenBank …).

A table has all names of one sequence in a row, tab-separated: UCSC chromAlias, NCBI assembly_report.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from anyvar_step.errors import ConfigurationError

#: Columns of an NCBI assembly_report that hold names; its other columns hold words that many rows share.
_NAME_COLUMNS = frozenset({"sequence-name", "genbank-accn", "refseq-accn", "ucsc-style-name"})
_NO_NAME = frozenset({"", "na", "n/a", "."})
_MITOCHONDRION = ("M", "MT")


class ContigAliases:
    """Maps a name that a VCF uses to the contig's name in the FASTA."""

    def __init__(self, contigs: Iterable[str], table: Path | None = None) -> None:
        self._contigs = frozenset(contigs)
        self._aliases = _read(table, self._contigs) if table else {}

    def resolve(self, name: str) -> str | None:
        """The contig's own name; the table goes before the habits of chr1/1 and M/MT. None = unknown."""
        if name in self._contigs:
            return name
        known = self._aliases.get(name)
        return known or next((other for other in _habits(name) if other in self._contigs), None)

    def of(self, contig: str) -> list[str]:
        """The names that the table gives a contig."""
        return [alias for alias, known in self._aliases.items() if known == contig]


def _habits(name: str) -> Iterable[str]:
    """chr1 for 1 and 1 for chr1; all four names of the mitochondrion for each other."""
    bare = name.removeprefix("chr")
    for other in _MITOCHONDRION if bare in _MITOCHONDRION else (bare,):
        yield other
        yield f"chr{other}"


def _read(table: Path, contigs: frozenset[str]) -> dict[str, str]:
    """Alias to contig name. A name that two contigs share is no name: left out."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the table of aliases {table} cannot be read: {error}", "Check ANYVAR_STEP_REFERENCE_ALIASES"
        ) from None
    found: dict[str, set[str]] = {}
    columns: list[int] | None = None
    for line in lines:
        if line.startswith("#"):
            columns = _columns(line)
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        names = set(cells if columns is None else (cells[i] for i in columns if i < len(cells))) - _NO_NAME
        own = names & contigs
        if len(own) == 1:
            for name in names - own:
                found.setdefault(name, set()).update(own)
    if not found:
        raise ConfigurationError(
            f"{table} gives no further name to any contig of the reference",
            "Use a tab-separated table with all names of one sequence in a row",
        )
    return {name: next(iter(owners)) for name, owners in found.items() if len(owners) == 1}


def _columns(header: str) -> list[int] | None:
    """Which columns hold names, by the table's header line; None = all of them."""
    titles = [title.strip().lower() for title in header.lstrip("#").split("\t")]
    if _NAME_COLUMNS & set(titles):
        return [i for i, title in enumerate(titles) if title in _NAME_COLUMNS]
    return [i for i, title in enumerate(titles) if title != "source"] if "source" in titles else None
