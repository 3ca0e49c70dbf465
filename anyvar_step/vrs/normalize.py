"""Alleles of a VCF and their normalization: the interval and state that name a change.

Normalization is VRS 2.0.1's, fully justified; its steps are numbered in docs/contract.md#vrs-normalization.
All sequences are upper-case bytes, all positions inter-residue.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from anyvar_step.reference.base import Contig

#: A ReferenceLengthExpression shows its sequence up to this length.
SHOWN = 50
#: Bases compared at once while rolling: first, and at most.
_FIRST, _MOST = 32, 1 << 16
#: IUPAC nucleotide codes, U included, any case; the whole allele must consist of them.
_NUCLEOTIDES = b"ACGTURYKMSWBDHVNacgturykmswbdhvn"


class Trimmed(NamedTuple):
    """REF and ALT without what they share; ``prefix`` is the number of bases left out before them."""

    prefix: int
    ref: bytes
    alt: bytes

    @property
    def kind(self) -> str:
        """The kind of the change, as ``Counts.alleles`` names it."""
        if self.ref == self.alt:
            return "same_as_ref"
        if not self.ref:
            return "insertion"
        if not self.alt:
            return "deletion"
        if len(self.ref) != len(self.alt):
            return "delins"
        return "snv" if len(self.ref) == 1 else "mnv"


class Normalized(NamedTuple):
    """An allele's interval and state.

    ``length`` is None for a literal state. For a ReferenceLengthExpression ``sequence`` is None above 50.
    """

    start: int
    end: int
    sequence: bytes | None
    length: int | None = None
    repeat_subunit_length: int | None = None


def is_nucleotides(text: bytes) -> bool:
    """Whether all of ``text`` are IUPAC nucleotide codes, and there is one at least."""
    return bool(text) and not text.translate(None, _NUCLEOTIDES)


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


def trim(ref: bytes, alt: bytes) -> Trimmed:
    """Step 3: leave out the common suffix, then the common prefix. Two equal sequences stay as they are.

    Where one side becomes empty, prefix or suffix may be left out first: the interval moves within the repeat
    that ``normalize`` spans anyway.
    """
    if ref == alt or len(ref) == len(alt) == 1:
        return Trimmed(0, ref, alt)
    shared = min(len(ref), len(alt))
    suffix = _common_suffix(ref[-shared:], alt[-shared:])
    ref, alt = ref[: len(ref) - suffix], alt[: len(alt) - suffix]
    shared -= suffix
    prefix = _common_prefix(ref[:shared], alt[:shared])
    return Trimmed(prefix, ref[prefix:], alt[prefix:])


def normalize(contig: Contig, start: int, ref: bytes, alt: bytes) -> Normalized:
    """Steps 2, 4 and 5 for a trimmed change; ``ref`` is what the contig has from ``start`` on."""
    end = start + len(ref)
    if ref == alt:  # step 2
        return Normalized(start, end, ref if len(ref) <= SHOWN else None, len(ref), len(ref))
    if ref and alt:  # step 3: nothing to roll
        return Normalized(start, end, alt)
    # Step 4: one side is empty; the other is the seed.
    seed = ref or alt
    left, right = _roll_left(contig, seed, start), _roll_right(contig, seed, end)
    start, end = start - left, end + right
    # Step 5. The reference repeats the seed on both sides, so the alternate is the seed going round.
    if ref:
        length, unit = left + right, len(seed)
    else:
        length, repeated = left + len(seed) + right, _subunit(seed, left + right)
        if repeated is None:
            return Normalized(start, end, around(seed, -left, length))
        unit = repeated
    shown = around(seed, -left, length) if length <= SHOWN else None
    return Normalized(start, end, shown, length, unit)


def _subunit(seed: bytes, reference: int) -> int | None:
    """Step 5 for an insertion: the longest divisor of the seed that the reference's last bases repeat.

    Those last bases are the seed going round, so they repeat through the insertion just if the seed itself
    is a repeat of that length; it cannot be longer than the expanded ``reference``. None = no divisor.
    """
    size = len(seed)
    if size <= reference:
        return size
    if not reference:
        return None
    return next((c for c in _divisors(size) if c <= reference and seed == seed[:c] * (size // c)), None)


def _divisors(n: int) -> list[int]:
    """The divisors of n, largest first."""
    small = [i for i in range(1, isqrt(n) + 1) if n % i == 0]
    return sorted({*small, *(n // i for i in small)}, reverse=True)


def around(seed: bytes, start: int, size: int) -> bytes:
    """``size`` bases from ``start`` on of the seed repeated without end in both directions."""
    phase = start % len(seed)
    return (seed * ((phase + size) // len(seed) + 1))[phase : phase + size]


def _roll_left(contig: Contig, seed: bytes, position: int) -> int:
    """How many bases before ``position`` are the seed going round backwards."""
    rolled, step = 0, _FIRST
    while True:
        found = contig.fetch(max(position - rolled - step, 0), position - rolled)
        same = _common_suffix(found, around(seed, -rolled - len(found), len(found)))
        rolled += same
        if same < step:
            return rolled
        step = min(step * 4, _MOST)


def _roll_right(contig: Contig, seed: bytes, position: int) -> int:
    """How many bases from ``position`` on are the seed going round."""
    rolled, step = 0, _FIRST
    while True:
        found = contig.fetch(position + rolled, position + rolled + step)
        same = _common_prefix(found, around(seed, rolled, len(found)))
        rolled += same
        if same < step:
            return rolled
        step = min(step * 4, _MOST)


# Sequences are compared as integers: the highest byte in which they differ is the first one.


def _common_prefix(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two sequences of one length."""
    difference = int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
    return len(a) - (difference.bit_length() + 7) // 8


def _common_suffix(a: bytes, b: bytes) -> int:
    """Length of the common suffix of two sequences of one length."""
    difference = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
    return len(a) - (difference.bit_length() + 7) // 8
