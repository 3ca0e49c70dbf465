"""The compiled VRS engine: the same bytes, facts and refusals as ``python_engine``, several times as fast.

Importing this raises ImportError where the library, built from ``native/``, is missing. The engine reads a
plain FASTA by position itself; other references are the Python engine's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Unpack

from anyvar_step import _native
from anyvar_step.reference.fasta import changed, unreadable
from anyvar_step.vrs.engine import Annotated, EngineOptions, KeptAlleles, record_error, text_of


def is_stale() -> bool:
    """Whether the library was built from other sources than those beside the package, as in a clone.

    ``hatch_build.py`` builds it, and gives it the digest of its sources.
    """
    native = Path(__file__).parents[2] / "native"
    files = [native / "Cargo.toml", native / "Cargo.lock", *native.glob("src/*.rs")]
    digest = hashlib.sha256()
    try:
        for file in sorted(files):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    except OSError:
        return False  # an installed wheel has no sources
    return digest.hexdigest() != _native.SOURCES


class NativeEngine:
    """Adds VRS fields to blocks of record lines; see ``engine.Engine`` and ``engine.EngineOptions``.

    Raises ConfigurationError where the FASTA has been changed or replaced since the reference was opened.
    """

    name = "native"

    def __init__(self, reference: Any, **options: Unpack[EngineOptions]) -> None:
        self._reference = reference
        self.sequences: dict[str, str] = {}
        wanted: Any = {"keep_alleles": False, "existing": "replace", **options}
        try:
            self._engine = _native.Engine(reference.path, reference.assembly, self._contig, **wanted)
        except OSError as error:
            raise unreadable(reference.path, str(error.strerror)) from None
        if self._engine.identity() != reference.identity:
            raise changed(reference.path)

    def annotate(self, block: bytes) -> Annotated:
        """Annotate whole lines, each ended by a newline, none of them empty.

        Other threads run meanwhile, and may annotate, too. Raises RecordError, and ConfigurationError where
        the FASTA cannot be read, or has been changed.
        """
        try:
            text, numbers, facts, places, parts = self._engine.annotate(block)
        except _native.Refused as refused:
            raise record_error(*refused.args) from None
        except _native.Changed:
            raise changed(self._reference.path) from None
        except _native.Unreadable as error:
            raise unreadable(self._reference.path, str(error)) from None
        records, ids, kept, plain = numbers
        columns, kinds, errors, examples, unknown, runs = facts
        lacking: dict[bytes, int] = {}
        for name, number in unknown:
            lacking[name] = lacking.get(name, 0) + number
        starts, ends, offsets = map(_integers, places)
        return Annotated(
            text=text,
            records=records,
            ids=ids,
            kept=kept,
            columns=dict(columns),
            kinds=kinds,
            errors=errors,
            examples=examples,
            unknown=lacking,
            runs=runs,
            starts=starts,
            ends=ends,
            offsets=offsets,
            plain=plain,
            alleles=_kept(parts) if parts else KeptAlleles(),
        )

    def _contig(self, name: bytes) -> tuple[str, int, int, int, int] | None:
        """What the library needs to know of a contig: accession, bases, and where it lies in the file."""
        text = text_of(name)
        contig = self._reference.contig(text)
        if contig is None:
            return None
        self.sequences[text] = contig.accession
        offset, bases, width = contig.layout
        return contig.accession, contig.length, offset, bases, width


def _integers(packed: bytes) -> memoryview:
    return memoryview(packed).cast("q")


def _kept(parts: Any) -> KeptAlleles:
    alleles, locations, where, places, accessions, states, sequences = parts
    where, places, states = map(_integers, (where, places, states))
    return KeptAlleles(alleles, locations, where, places, accessions, states, sequences)
