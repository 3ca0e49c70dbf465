"""Other names of contigs: from a table, chr1 and 1, chrM and MT, and those of human assemblies.

A table has all names of one sequence in a row, tab-separated: UCSC chromAlias, NCBI assembly_report.
``assemblies.tsv`` has the GenBank, RefSeq, NCBI and UCSC names of GRCh37, GRCh38 and T2T-CHM13v2.0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from anyvar_step.errors import ConfigurationError

#: Columns of an NCBI assembly_report that hold names; its other columns hold words that many rows share.
_NAME_COLUMNS = frozenset({"sequence-name", "genbank-accn", "refseq-accn", "ucsc-style-name"})
_NO_NAME = frozenset({"", "na", "n/a", "."})
_MITOCHONDRION = ("M", "MT")
#: Bases of the mitochondrion of GRCh37, GRCh38 and T2T-CHM13v2.0, whose sequences differ, and of hg19's chrM
#: (NC_001807), which no other assembly calls MT.
_MT, _HG19_M = 16569, 16571


class ContigAliases:
    """Maps a name that a VCF uses to the contig's name in the reference.

    ``contigs``: their names and bases. ``table``: a file of further names. Raises ConfigurationError if the
    table cannot be read, or has a further name for none of them.
    """

    def __init__(self, contigs: Mapping[str, int], table: Path | None = None) -> None:
        self._contigs = contigs
        self._aliases = _read(table, contigs) if table else {}

    def resolve(self, name: str) -> str | None:
        """The contig's own name; None if no contig is known by that name.

        Its own name goes before the table, the table before chr1/1 and M/MT, and these before the human
        assemblies.
        """
        if name in self._contigs:
            return name
        return self._aliases.get(name) or self._habitual(name) or self._of_assemblies.get(name)

    def _habitual(self, name: str) -> str | None:
        """The contig by a habitual name; hg19's chrM is not MT."""
        bare = name.removeprefix("chr")
        for own in habitual_names(name):
            same = own.removeprefix("chr") == bare
            if own in self._contigs and (same or self._contigs[own] != _HG19_M):
                return own
        return None

    @cached_property
    def _of_assemblies(self) -> dict[str, str]:
        """Alias to contig by the human assemblies; read only if a name is not found otherwise.

        A contig is a sequence of an assembly if one of its names and its bases agree. An assembly counts if
        a contig of the nucleus is of it, since mitochondria of one length differ.
        """
        text = (files("anyvar_step.reference") / "assemblies.tsv").read_text(encoding="utf-8")
        rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
        matches = [
            (assembly, int(bases), names, own)
            for assembly, bases, *names in rows
            for own in names
            if self._contigs.get(own) == int(bases)
        ]
        confirmed = {assembly for assembly, bases, _, _ in matches if bases != _MT}
        return unshared(
            (name, own) for assembly, _, names, own in matches if assembly in confirmed for name in names
        )


def habitual_names(name: str) -> list[str]:
    """1 and chr1 for 1 or chr1; for a mitochondrion all four names, the nearest first."""
    bare = name.removeprefix("chr")
    others = dict.fromkeys((bare, *_MITOCHONDRION)) if bare in _MITOCHONDRION else (bare,)
    return [each for other in others for each in (other, f"chr{other}")]


def table_names(table: Path | None, name: str) -> list[str]:
    """The other names that a table gives a sequence. Raises ConfigurationError where it cannot be read."""
    rows = [row for row in _rows(table) if name in row] if table else []
    return sorted(rows[0] - {name}) if len(rows) == 1 else []


def unshared(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Alias to contig by pairs of them, without the aliases that two contigs share."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for alias, contig in pairs:
        owners[alias].add(contig)
    return {name: next(iter(own)) for name, own in owners.items() if len(own) == 1}


def _read(table: Path, contigs: Mapping[str, int]) -> dict[str, str]:
    """Alias to contig by a table."""
    found = [
        (name, next(iter(own)))
        for names in _rows(table)
        if len(own := names & contigs.keys()) == 1
        for name in names - own
    ]
    if not found:
        raise ConfigurationError(
            f"{table} gives no further name to any contig of the reference",
            "Use a tab-separated table with all names of one sequence in a row",
        )
    return unshared(found)


def _rows(table: Path) -> list[set[str]]:
    """The names in each row of a table."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the table of aliases {table} cannot be read: {error}", "Check ANYVAR_STEP_REFERENCE_ALIASES"
        ) from None
    rows: list[set[str]] = []
    columns: list[int] | None = None
    for line in lines:
        if line.startswith("#"):
            columns = _columns(line)
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        rows.append(
            set(cells if columns is None else (cells[i] for i in columns if i < len(cells))) - _NO_NAME
        )
    return rows


def _columns(header: str) -> list[int] | None:
    """Which columns hold names, by the table's header line; None = all of them."""
    titles = [title.strip().lower() for title in header.lstrip("#").split("\t")]
    if _NAME_COLUMNS & set(titles):
        return [i for i, title in enumerate(titles) if title in _NAME_COLUMNS]
    return [i for i, title in enumerate(titles) if title != "source"] if "source" in titles else None
