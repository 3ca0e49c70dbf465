"""What a REF or ALT of a VCF is: nucleotides, or one of the things that have no VRS allele; and its kind."""

from __future__ import annotations

#: IUPAC nucleotide codes, U included, any case; the whole allele must consist of them.
_NUCLEOTIDES = b"ACGTURYKMSWBDHVNacgturykmswbdhvn"


def is_nucleotides(text: bytes) -> bool:
    """Whether all of ``text`` are IUPAC nucleotide codes, and there is one at least."""
    return bool(text) and not text.translate(None, _NUCLEOTIDES)


def kind_of_change(ref: bytes, alt: bytes) -> str:
    """The kind of REF→ALT by what is left of both after trimming what they share."""
    if ref == alt:
        return "same_as_ref"
    if not ref:
        return "insertion"
    if not alt:
        return "deletion"
    if len(ref) != len(alt):
        return "delins"
    return "snv" if len(ref) == 1 else "mnv"


def kind_of_other(alt: bytes) -> str:
    """The kind of an ALT that is no sequence (VCF 4.5 §1.6.1.5 and §5.4)."""
    if alt == b".":
        return "missing"
    if alt == b"*":
        return "overlapping"
    if b"[" in alt or b"]" in alt:
        return "breakend"
    if alt[:1] == b"<" and alt[-1:] == b">":
        return "symbolic"
    if (alt[:1] == b"." and is_nucleotides(alt[1:])) or (alt[-1:] == b"." and is_nucleotides(alt[:-1])):
        return "breakend"  # a single breakend
    return "other"
