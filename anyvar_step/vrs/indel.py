"""Insertions and deletions with one ALT, quickly: the translator's rules for what most of them look like.

REF or ALT is one base with which the other begins, and the repeat in which they lie ends within the bases at
hand. Whatever is not like that is left to the translator, which would give these the same fields.
"""

from __future__ import annotations

from anyvar_step.reference.base import Contig
from anyvar_step.vrs import fields
from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.block import Block
from anyvar_step.vrs.old_normalize import MARGIN, SHOWN, subunit

#: How many bases, as text, and the end of the serialisation of a REF of so many.
_NUMBERS = [b"%d" % bases for bases in range(SHOWN + 1)]
_REF_TAILS = [digest.reference_length_tail(number, number) for number in _NUMBERS]
#: The attribute fields of REF and ALT.
_BOTH = b"".join(b";%b=%%b,%%b" % name for name in fields.ATTRIBUTES)


class Indels:
    """Puts the alleles of such records into a block, REF's too with ``for_ref``."""

    def __init__(self, *, for_ref: bool, attributes: bool, keep: bool) -> None:
        self._for_ref = for_ref
        self._attributes = attributes
        self._keep = keep

    def field(
        self, contig: Contig, middle: bytes, start: int, ref: bytes, alt: bytes, block: Block
    ) -> bytes | None:
        """What follows the identifiers in the record's field; None where it is not such a record.

        ``middle`` is the contig's part of a location's serialisation.
        """
        change = _justified(contig, start, ref, alt)
        if change is None:
            return None
        first, last, state, unit = change
        begin, end = b"%d" % first, b"%d" % last
        if unit is None:
            length = repeat = b"."
        else:
            length, repeat = _NUMBERS[len(state)], _NUMBERS[unit]
        bases, shown = len(ref), state or b"."
        if self._for_ref:
            begins, ends, number = b"%d" % start, b"%d" % (start + bases), _NUMBERS[bases]
            block.add(digest.location(middle, begins, ends), _REF_TAILS[bases])
            if self._keep:
                block.keep((contig.accession, start, start + bases), (ref.decode("ascii"), bases, bases))
        block.add(digest.location(middle, begin, end), digest.tail(state, length, repeat))
        if self._keep:
            reference_length = (None, None) if unit is None else (len(state), unit)
            block.keep((contig.accession, first, last), (state.decode("ascii"), *reference_length))
        if not self._attributes:
            return b""
        if self._for_ref:
            return _BOTH % (begins, begin, ends, end, ref, shown, number, length, number, repeat)
        return fields.attributes([(begin, end, shown, length, repeat)])


def _justified(
    contig: Contig, start: int, ref: bytes, alt: bytes
) -> tuple[int, int, bytes, int | None] | None:
    """ALT's start, end, sequence and, but for a literal, repeat subunit length; None if it is not such."""
    longer, shorter = (ref, alt) if len(ref) > len(alt) else (alt, ref)
    if len(shorter) != 1 or not 1 < len(longer) <= SHOWN or longer[0] != shorter[0]:
        return None
    first, end = start - MARGIN, start + len(ref)
    if first < 0 or longer.translate(None, b"ACGT"):
        return None
    near = contig.fetch(first, end + MARGIN)
    at, to, beyond = MARGIN + 1, end - first, len(near)
    if near[MARGIN:to] != ref:
        return None
    seed = longer[1:]
    size, here, there = len(seed), at, to
    while here and near[here - 1] == seed[(here - 1 - at) % size]:
        here -= 1
    while there < beyond and near[there] == seed[(there - to) % size]:
        there += 1
    rolled = at - here + there - to
    if not here or there == beyond or rolled + size >= SHOWN:
        return None
    if longer is ref:
        return first + here, first + there, near[here : here + rolled], size
    return first + here, first + there, near[here:at] + seed + near[at:there], subunit(seed, rolled)
