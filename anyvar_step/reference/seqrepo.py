"""A SeqRepo's folder as a reference: biocommons.seqrepo names an assembly's sequences and their files.

The files are bgzipped FASTAs with indexes, read here by blocks: SeqRepo opens a file at each fetch.
Accessions are SeqRepo's, so that nothing is digested.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import fasta, seqrepo_rest
from anyvar_step.reference.aliases import ContigAliases
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.reference.fasta import BlockedSource, FaiEntry, FastaContig, Window, misfit
from anyvar_step.settings import masked


class _Sequence(NamedTuple):
    """What SeqRepo's tables say of one sequence; ``file`` is its path below ``sequences``."""

    key: str
    name: str
    accession: str
    length: int
    file: str
    #: All its aliases, those of the assembly first.
    aliases: tuple[str, ...]


class SeqRepoReference:
    """The sequences that a SeqRepo has in the namespace of one assembly (see ``base.Reference``)."""

    def __init__(self, assembly: str, root: Path, sequences: list[_Sequence], names: ContigAliases) -> None:
        self.assembly = assembly
        self._root = root
        self._sequences = {sequence.name: sequence for sequence in sequences}
        self._names = names
        self._aliases = _unique(sequences)
        self._files: dict[str, tuple[Window, dict[str, FaiEntry]]] = {}
        self._contigs: dict[str, FastaContig] = {}

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias in any namespace; None where the assembly does not have it."""
        own = name if name in self._sequences else self._aliases.get(name) or self._names.resolve(name)
        return self._opened(self._sequences[own]) if own else None

    def contigs(self) -> list[Contig]:
        """All contigs, in the order in which they came into the SeqRepo."""
        return [self._opened(sequence) for sequence in self._sequences.values()]

    def is_current(self) -> bool:
        """Whether the files that were read are as they were; an instance of SeqRepo grows by new files."""
        return all(window.source.is_current() for window, _ in self._files.values())

    def close(self) -> None:
        """Close the files."""
        for window, _ in self._files.values():
            window.source.close()

    def _opened(self, sequence: _Sequence) -> FastaContig:
        """The sequence, ready to be read. Raises ConfigurationError where its file is not as it should be."""
        if sequence.name not in self._contigs:
            window, entries = self._file(sequence.file)
            entry = entries.get(sequence.key)
            if entry is None or entry.length != sequence.length:
                raise _damaged(self._root, f"{sequence.file} does not hold {sequence.name} as its tables say")
            if why := misfit(window, entry):
                raise _damaged(self._root, why)
            contig = FastaContig(window, entry)
            contig.name, contig.accession = sequence.name, sequence.accession
            self._contigs[sequence.name] = contig
        return self._contigs[sequence.name]

    def _file(self, name: str) -> tuple[Window, dict[str, FaiEntry]]:
        if name not in self._files:
            path = self._root / "sequences" / name
            try:
                index, blocks = fasta.prepare_fai(path, blocked=True)
                entries = {entry.name: entry for entry in fasta.read_fai(index)}
                self._files[name] = Window(BlockedSource(path, blocks)), entries
            except OSError as error:
                raise _damaged(self._root, f"{path} cannot be read: {error.strerror}") from None
        return self._files[name]


def open_seqrepo(assembly: str, uri: str, aliases: Path | None = None) -> Reference:
    """The SeqRepo at ``uri`` as the reference of ``assembly``.

    ``seqrepo+file:///path`` or ``seqrepo+:path``, which may be relative, is an instance's folder: its tables
    are read here and now, so that forked processes may share it. ``seqrepo+http(s)://host/seqrepo`` is a REST
    service. Raises ConfigurationError where there is no SeqRepo, or where a folder's does not know the
    assembly, and Unavailable where a service does not answer.
    """
    if _is_service(uri):
        return seqrepo_rest.RestReference(assembly, seqrepo_rest.open_service(uri), aliases)
    root = _folder(uri)
    repo = _repo(root)
    sequences = _read(repo, assembly)
    if not sequences:
        raise ConfigurationError(
            f"the SeqRepo {root} has no sequence named {assembly}:…",
            "Name the assembly as the SeqRepo does: `seqrepo --root-directory DIR export` lists its names",
        )
    return SeqRepoReference(
        assembly, root, sequences, ContigAliases({s.name: s.length for s in sequences}, aliases)
    )


def check(uri: str) -> None:
    """Raise as ``open_seqrepo`` does where the URI does not lead to a SeqRepo that can be read."""
    if _is_service(uri):
        seqrepo_rest.open_service(uri).close()
    else:
        _repo(_folder(uri))


def _is_service(uri: str) -> bool:
    return uri.startswith(("seqrepo+http://", "seqrepo+https://"))


def _folder(uri: str) -> Path:
    """The folder that a URI names; as vrs-python, it takes a relative one and no host."""
    parts = urlsplit(uri)
    if parts.scheme not in ("seqrepo+", "seqrepo+file") or parts.netloc or not parts.path:
        raise ConfigurationError(
            f"{masked(uri)} names no SeqRepo",
            "Use seqrepo+file:///path/to/instance, seqrepo+:../relative/path or seqrepo+http://host:port/seqrepo",
        )
    return Path(parts.path)


def _repo(root: Path) -> Any:
    """The opened instance; its tables are SQLite databases."""
    try:
        from biocommons.seqrepo import SeqRepo
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the reference is a SeqRepo, and the package {error.name} is not installed",
            "Run: pip install 'anyvar-step[seqrepo]'",
        ) from None
    # It warns at each start that it caches no file descriptors; its own are not used here.
    logging.getLogger("biocommons.seqrepo.fastadir").setLevel(logging.WARNING)
    if not (root / "aliases.sqlite3").is_file():
        raise ConfigurationError(
            f"{root} is not a SeqRepo: it has no aliases.sqlite3",
            "Name the instance itself, such as /usr/local/share/seqrepo/2024-12-20",
        )
    try:
        return SeqRepo(str(root))
    except (OSError, RuntimeError, TypeError, sqlite3.Error) as error:
        raise _damaged(root, str(error)) from None


def _read(repo: Any, assembly: str) -> list[_Sequence]:
    """The assembly's sequences, by the order of their first name in it."""
    names: dict[str, list[tuple[int, str]]] = {}
    for row in repo.aliases.find_aliases(namespace=assembly):
        names.setdefault(row["seq_id"], []).append((row["seqalias_id"], row["alias"]))
    keys = sorted(names, key=lambda key: min(names[key]))
    return [_sequence(repo, key, [name for _, name in sorted(names[key])]) for key in keys]


def _sequence(repo: Any, key: str, names: list[str]) -> _Sequence:
    """One sequence; of the assembly's names that with ``chr`` is its own, as VCFs mostly have it."""
    rows = list(repo.aliases.find_aliases(seq_id=key))
    [accession] = {row["alias"] for row in rows if row["namespace"] == seqrepo_rest.REFGET}
    about = repo.sequences.fetch_seqinfo(key)
    name = next((name for name in names if name.startswith("chr")), names[0])
    others = [row["alias"] for row in rows if row["alias"] not in names]
    return _Sequence(key, name, accession, about["len"], about["relpath"], (*names, *others))


def _unique(sequences: Iterable[_Sequence]) -> dict[str, str]:
    """Alias to the sequence's own name. An alias that two sequences share is no name: left out."""
    owners: dict[str, set[str]] = {}
    for sequence in sequences:
        for alias in sequence.aliases:
            owners.setdefault(alias, set()).add(sequence.name)
    return {alias: next(iter(names)) for alias, names in owners.items() if len(names) == 1}


def _damaged(root: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"the SeqRepo {root} cannot be used: {why}", "Fetch it again: seqrepo pull")
