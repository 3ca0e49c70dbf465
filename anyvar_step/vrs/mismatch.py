"""A REF that is not what the reference has there: the causes, and what VRS_Error says of it."""

from __future__ import annotations

from anyvar_step.vrs import fields

#: Bases of a sequence that a message shows.
QUOTED = 50


def cause_of(ref: bytes, found: bytes) -> str:
    """Why REF is not what was found in the reference, both upper-case."""
    if len(found) < len(ref):
        return "position"
    return "ref_mismatch" if ref.strip(b"N") else "ref_n"


def example(chrom: bytes, start: int, ref: bytes, found: bytes) -> bytes:
    """One such record in short, for reports."""
    return b"%b:%d REF %b, reference %b" % (chrom, start + 1, ref[:QUOTED], found[:QUOTED] or b"(none)")


def message(assembly: str, chrom: bytes, start: int, ref: bytes, found: bytes) -> bytes:
    """The value of VRS_Error, in AnyVar's words (CONTRACTS.md §4) but for sequences of more than 50 bases."""
    return fields.escaped(
        b"Reference mismatch at %b:%b position %d-%d (input gave '%b' but correct ref is '%b')"
        % (assembly.encode("utf-8"), chrom, start, start + len(ref), ref[:QUOTED], found[:QUOTED])
    )
