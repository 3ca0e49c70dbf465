"""The INFO fields that VRS adds to a VCF: names, header lines, escaped errors, removal of older ones."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote_from_bytes

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.vrs.normalize import Normalized

IDS = b"VRS_Allele_IDs"
STARTS = b"VRS_Starts"
ENDS = b"VRS_Ends"
STATES = b"VRS_States"
LENGTHS = b"VRS_Lengths"
SUBUNITS = b"VRS_RepeatSubunitLengths"
ERROR = b"VRS_Error"

ATTRIBUTES = (STARTS, ENDS, STATES, LENGTHS, SUBUNITS)
#: All fields that are ours; those of an earlier annotation are replaced.
FIELD_NAMES = (IDS, *ATTRIBUTES, ERROR)
#: What all of them begin with.
PREFIX = b"VRS_"

#: Bases of a sequence that VRS_Error and examples show.
QUOTED = 50

#: An allele's values of the attribute fields, in their order, as INFO shows them.
Texts = tuple[bytes, bytes, bytes, bytes, bytes]
NO_TEXTS: Texts = (b".", b".", b".", b".", b".")

_NAMES = frozenset(FIELD_NAMES)
#: Characters of a message that need no escape in INFO beside letters, digits and ``_.-~``.
_LEGAL = "()':/"


def header_lines(for_ref: bool, attributes: bool) -> list[bytes]:
    """The ##INFO lines of the fields, without line ends; one value per allele, REF first with ``for_ref``.

    The descriptions are AnyVar's, since readers find the VRS version by them; the program's version is ours
    (docs/contract.md#vrs-fields).
    """
    number, alleles = ("R", "REF and ALT") if for_ref else ("A", "ALT")
    of = f"for the GA4GH VRS Alleles corresponding to the GT indexes of the {alleles} alleles"
    versions = f"[VRS version={VRS_VERSION};anyvar-step version={__version__}]"
    located = f"used as the location %s {of}"
    lengths = f"values from ReferenceLengthExpression states {of}"
    wanted = [
        (IDS, number, "String", f"The computed identifiers {of} {versions}"),
        (ERROR, ".", "String", "If an error occurred computing a VRS Identifier, the error message"),
    ]
    if attributes:
        wanted += [
            (STARTS, number, "Integer", "Interresidue coordinates " + located % "starts"),
            (ENDS, number, "Integer", "Interresidue coordinates " + located % "ends"),
            (STATES, number, "String", f"The literal sequence states used {of}"),
            (LENGTHS, number, "Integer", f"The length {lengths}"),
            (SUBUNITS, number, "Integer", f"The repeatSubunitLength {lengths}"),
        ]
    return [
        f'##INFO=<ID={name.decode()},Number={number},Type={kind},Description="{text}">'.encode()
        for name, number, kind, text in wanted
    ]


def mismatch_cause(ref: bytes, found: bytes) -> str:
    """Why REF is not what was found in the reference, as ``Counts.errors`` names it; both upper-case."""
    if len(found) < len(ref):
        return "position"
    return "ref_mismatch" if ref.strip(b"N") else "ref_n"


def mismatch_example(chrom: bytes, start: int, ref: bytes, found: bytes) -> bytes:
    """A record whose REF differs, in short, for reports."""
    return b"%b:%d REF %b, reference %b" % (chrom, start + 1, ref[:QUOTED], found[:QUOTED] or b"(none)")


def mismatch(assembly: str, chrom: bytes, start: int, ref: bytes, found: bytes) -> bytes:
    """VRS_Error for a REF that differs, in AnyVar's words but for sequences of more than 50 bases."""
    where = b"%b:%b position %d-%d" % (assembly.encode("utf-8"), chrom, start, start + len(ref))
    said = b"input gave '%b' but correct ref is '%b'" % (ref[:QUOTED], found[:QUOTED])
    return ERROR + b"=" + escaped(b"Reference mismatch at %b (%b)" % (where, said))


def escaped(message: bytes) -> bytes:
    """The message as a legal INFO value of VCF 4.2; ``urllib.parse.unquote`` gives it back."""
    return quote_from_bytes(message, safe=_LEGAL).encode("ascii")


def without_ours(info: bytes) -> bytes:
    """INFO without the fields of an earlier annotation; ``.`` where nothing else is in it."""
    kept = [item for item in info.split(b";") if item.partition(b"=")[0] not in _NAMES]
    return b";".join(kept) or b"."


def texts(allele: Normalized) -> Texts:
    """The allele's values of the attribute fields."""
    start, end, sequence, length, subunit = allele
    if length is None or subunit is None:
        return b"%d" % start, b"%d" % end, sequence or b".", b".", b"."
    return b"%d" % start, b"%d" % end, sequence or b".", b"%d" % length, b"%d" % subunit


def attributes(alleles: Sequence[Texts]) -> bytes:
    """The attribute fields of a record with these alleles, each with a semicolon before it."""
    starts, ends, states, lengths, subunits = map(b",".join, zip(*alleles))  # noqa: B905 - all are Texts
    return b"".join((_START, starts, _END, ends, _STATE, states, _LENGTH, lengths, _SUBUNIT, subunits))


_START, _END, _STATE, _LENGTH, _SUBUNIT = [b";%b=" % name for name in ATTRIBUTES]
