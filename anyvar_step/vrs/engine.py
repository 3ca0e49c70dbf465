"""The contract of the two VRS engines, and the choice between them.

An engine turns a block of whole record lines into the same lines with VRS fields in INFO, and the facts about
the block. ``python_engine`` states the rules; ``native_engine`` is compiled and gives the same bytes, facts
and refusals (docs/contract.md#vrs-fields). An engine holds no running totals, and ``annotate`` may be called
from several threads at once.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NotRequired, Protocol, TypedDict, TypeVar, Unpack, overload

from anyvar_step.errors import ConfigurationError
from anyvar_step.models import Counts, Existing, KeptAllele
from anyvar_step.reference.base import Reference
from anyvar_step.vrs import digest
from anyvar_step.vrs.fields import Texts
from anyvar_step.vrs.normalize import Normalized

#: What ANYVAR_STEP_ENGINE may be; ``auto`` is ``native`` where that is built and reads the reference.
EngineChoice = Literal["auto", "native", "python"]
#: Digits of the largest 64-bit position; a POS of more is no position.
DIGITS = 19
#: No index can hold positions from here on.
FARTHEST = 1 << 62

#: 64-bit integers, as both engines pack them.
Integers = Sequence[int]
Key = TypeVar("Key")


class RecordError(ValueError):
    """A line is no VCF record, or must not have VRS fields; ``index`` is its 0-based place in the block."""

    def __init__(self, index: int, reason: str, remedy: str = "") -> None:
        super().__init__(index, reason, remedy)
        self.index = index
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return self.reason


def record_error(index: int, code: str, raw: bytes) -> RecordError:
    """The refusal of the record at ``index``, in the same words for both engines.

    ``code`` and ``raw``: ``empty`` and nothing; ``columns`` and the number of columns in decimal;
    ``position`` and POS; ``existing`` and nothing.
    """
    if code == "empty":
        return RecordError(index, "an empty line among the records", "Remove it")
    if code == "columns":
        columns = int(raw)
        reason = f"it has {columns} tab-separated columns, and a VCF record has at least 8"
        return RecordError(index, reason)
    if code == "position":
        return RecordError(index, f"its POS {text_of(raw[:DIGITS])!r} is not a position")
    return RecordError(index, "it has VRS fields already", "Use --existing replace or --existing keep")


def text_of(value: bytes) -> str:
    """A name or value of a VCF, which may not be UTF-8, for messages and reports."""
    return value.decode("utf-8", "backslashreplace")


def count(counts: dict[Key, int], key: Key, number: int = 1) -> None:
    """Count ``key``."""
    counts[key] = counts.get(key, 0) + number


class KeptAlleles(Sequence[KeptAllele]):
    """The alleles of one block for stores, in the order of the records, REF before ALT, repeats included.

    They are made from packed buffers, each when it is read: a store has most alleles of most VCFs already,
    compares their ``digests`` and reads the others.

    ``alleles`` and ``locations``: 24-byte digests, one behind the other. ``where``: the index of each
    allele's location. ``places``: three integers a location, index in ``accessions``, start and end.
    ``states``: four integers an allele: offset and length of its sequence in ``sequences`` (length -1 = not
    shown), then length and repeat subunit length of a ReferenceLengthExpression (-1 = a literal).
    """

    def __init__(
        self,
        alleles: bytes = b"",
        locations: bytes = b"",
        where: Sequence[int] = (),
        places: Sequence[int] = (),
        accessions: Sequence[str] = (),
        states: Sequence[int] = (),
        sequences: bytes = b"",
    ) -> None:
        self._parts = (alleles, locations, where, places, accessions, states, sequences)
        #: The 24 bytes that the alleles' identifiers stand for.
        self.digests: Sequence[bytes] = struct.unpack("24s" * (len(alleles) // 24), alleles)

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, index: int) -> KeptAllele: ...
    @overload
    def __getitem__(self, index: slice) -> list[KeptAllele]: ...
    def __getitem__(self, index: int | slice) -> KeptAllele | list[KeptAllele]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        alleles, locations, where, places, accessions, states, sequences = self._parts
        number = range(len(self))[index]
        location = where[number]
        accession, start, end = places[3 * location : 3 * location + 3]
        at, size, length, subunit = states[4 * number : 4 * number + 4]
        return KeptAllele(
            _identifier(digest.ALLELE_PREFIX, alleles, number),
            _identifier(digest.LOCATION_PREFIX, locations, location),
            accessions[accession],
            start,
            end,
            None if size < 0 else sequences[at : at + size].decode("ascii"),
            None if length < 0 else length,
            None if length < 0 else subunit,
        )


def _identifier(prefix: bytes, digests: bytes, index: int) -> str:
    return (prefix + digest.encoded(digests[24 * index : 24 * index + 24])).decode("ascii")


class AlleleCollector:
    """Digests the alleles of one block; with ``keep`` it packs them for KeptAlleles, too.

    An allele shares the location of the one before where they lie at the same place, as REF and ALT often do.
    """

    def __init__(self, *, keep: bool) -> None:
        #: alleles so far
        self.count = 0
        self._keep = keep
        self._place = "", b"", b""
        self._location = b""
        self._alleles, self._locations = bytearray(), bytearray()
        self._where, self._places, self._states = array("q"), array("q"), array("q")
        self._accessions: dict[str, int] = {}
        self._sequences = bytearray()

    def identifier(self, accession: str, allele: Normalized, texts: Texts) -> bytes:
        """The identifier of an allele on the sequence ``accession``; ``texts`` are its attribute fields."""
        self.count += 1
        start, end, state, length, subunit = texts
        place = accession, start, end
        if place != self._place:
            self._place = place
            made = digest.sha512t24(digest.location(accession.encode("ascii"), start, end))
            self._location = digest.encoded(made)
            if self._keep:
                self._locations += made
                known = self._accessions.setdefault(accession, len(self._accessions))
                self._places.extend((known, allele.start, allele.end))
        sequence = (allele.sequence or b"") if length == b"." else state
        made = digest.sha512t24(digest.allele(self._location, sequence, length, subunit))
        if self._keep:
            self._alleles += made
            self._where.append(len(self._places) // 3 - 1)
            self._add_state(allele)
        return digest.ALLELE_PREFIX + digest.encoded(made)

    def drop_last(self) -> None:
        """Take back the last allele. Its location and sequence stay, and nothing refers to them."""
        self.count -= 1
        del self._alleles[-24:], self._where[-1:], self._states[-4:]

    def kept(self) -> KeptAlleles:
        """The alleles so far; none without ``keep``."""
        return KeptAlleles(
            bytes(self._alleles),
            bytes(self._locations),
            self._where,
            self._places,
            list(self._accessions),
            self._states,
            bytes(self._sequences),
        )

    def _add_state(self, allele: Normalized) -> None:
        sequence, length, subunit = allele[2:]
        size = -1 if sequence is None else len(sequence)
        reference_length = (-1, -1) if length is None or subunit is None else (length, subunit)
        self._states.extend((len(self._sequences), size, *reference_length))
        self._sequences += sequence or b""


@dataclass(slots=True)
class Annotated:
    """The facts about one block; ``text`` has its lines, each with its end, nothing but INFO changed.

    ``starts``, ``ends`` and ``offsets`` have one 64-bit integer a record: POS - 1, that plus the bases of
    REF, and the byte of ``text`` at which the line begins. ``plain`` is False, and they are empty, where they
    do not say where the records lie: POS 0 or above FARTHEST, consecutive records of a contig out of order,
    ``<`` in ALT, ``END=`` or ``SVLEN=`` in INFO. Counts by key are in the order of the first occurrence.
    """

    text: bytes = b""
    records: int = 0
    #: VRS ids written
    ids: int = 0
    #: records that keep the VRS fields they had
    kept: int = 0
    #: ALT alleles by kind, as ``Counts.alleles``
    kinds: dict[str, int] = field(default_factory=dict)
    #: records with VRS_Error, by cause
    errors: dict[str, int] = field(default_factory=dict)
    #: cause and record in short, in the order of the records, at most ``models.EXAMPLES`` for each cause
    examples: list[tuple[str, bytes]] = field(default_factory=list)
    #: records on contigs that the reference lacks, less those that were kept
    unknown: dict[bytes, int] = field(default_factory=dict)
    #: records by the number of their tab-separated columns
    columns: dict[int, int] = field(default_factory=dict)
    #: contig and number of consecutive records
    runs: list[tuple[bytes, int]] = field(default_factory=list)
    starts: Integers = field(default_factory=lambda: array("q"))
    ends: Integers = field(default_factory=lambda: array("q"))
    offsets: Integers = field(default_factory=lambda: array("q"))
    plain: bool = True
    #: the block's alleles; empty unless the engine was made with ``keep_alleles``
    alleles: KeptAlleles = field(default_factory=KeptAlleles)

    def add_to(self, counts: Counts) -> None:
        """Add the block to the counts of its VCF."""
        counts.records += self.records
        counts.ids += self.ids
        counts.kept += self.kept
        for kind, number in self.kinds.items():
            count(counts.alleles, kind, number)
        for cause, number in self.errors.items():
            count(counts.errors, cause, number)
        for cause, example in self.examples:
            counts.exemplify(cause, text_of(example))
        for chrom, number in self.unknown.items():
            count(counts.unknown_contigs, text_of(chrom), number)
        for chrom, number in self.runs:
            count(counts.contigs, text_of(chrom), number)


class EngineOptions(TypedDict):
    """What an engine writes."""

    #: identifiers of REF too
    for_ref: bool
    #: location and state fields too
    attributes: bool
    #: ``Annotated.alleles`` has the alleles; False if it is not given
    keep_alleles: NotRequired[bool]
    #: whether VRS fields that a record has already are replaced (if it is not given), kept (the record stays
    #: as it is and has no alleles), or refused
    existing: NotRequired[Existing]


class Engine(Protocol):
    """Adds VRS fields to blocks of record lines."""

    #: ``python`` or ``native``
    name: str
    #: the refget accession of each contig that was met and that the reference has
    sequences: dict[str, str]

    def annotate(self, block: bytes) -> Annotated:
        """Annotate whole lines, each ended by a newline.

        Raises RecordError for the first line that cannot be annotated, and what the reference raises.
        """


def make_engine(
    reference: Reference, *, choice: EngineChoice = "auto", **options: Unpack[EngineOptions]
) -> Engine:
    """An engine over ``reference``; the native one only reads a plain FASTA.

    Raises ConfigurationError where ``choice`` is ``native`` and that engine is not built, or cannot read the
    reference.
    """
    if engine_name(choice) == "native":
        if getattr(reference, "path", None) is not None:
            from anyvar_step.vrs.native_engine import NativeEngine

            return NativeEngine(reference, **options)
        if choice == "native":
            raise ConfigurationError(
                f"the native engine cannot read the reference of {reference.assembly}",
                "Name a plain FASTA with --reference, or set ANYVAR_STEP_ENGINE=auto",
            )
    from anyvar_step.vrs.python_engine import PythonEngine

    return PythonEngine(reference, **options)


def engine_name(choice: EngineChoice = "auto") -> str:
    """The engine that annotates over a plain FASTA: ``python`` or ``native``; other references take python.

    Raises ConfigurationError where ``choice`` is ``native`` and that engine is not built.
    """
    if choice == "python":
        return "python"
    if _is_built():
        return "native"
    if choice == "native":
        raise ConfigurationError(
            "the native engine is not built",
            "Install a wheel that has it, or build it with cargo; or set ANYVAR_STEP_ENGINE=auto",
        )
    return "python"


def _is_built() -> bool:
    """Whether there is the library of the native engine."""
    try:
        from anyvar_step import _native  # noqa: F401
    except ImportError:
        return False
    return True
