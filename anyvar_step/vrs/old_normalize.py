"""Fully-justified normalization of VRS 2.0.1 alleles: the interval and state that name a change.

Source: GA4GH VRS 2.0.1, "Normalization", checked against ga4gh.vrs 2.3.3 (CONTRACTS.md §4, steps 1 to 5).
All sequences are upper-case bytes, all positions inter-residue.
"""

from __future__ import annotations

from collections.abc import Iterator

from anyvar_step.reference.base import Contig
from anyvar_step.vrs.normalize import Normalized as Normalized

#: A ReferenceLengthExpression shows its sequence up to this length.
SHOWN = 50
#: Bases compared at once while rolling: first, and at most.
_FIRST, _MOST = 256, 1 << 16
#: Bases to fetch on either side of a change, for ``justify``: most variants roll over fewer.
MARGIN = 24


def trim(ref: bytes, alt: bytes) -> tuple[int, bytes, bytes]:
    """Step 3: the length of the common prefix, and both sequences without common suffix and prefix.

    Two equal sequences are left as they are. Where one side becomes empty, prefix or suffix may be taken
    first: the interval moves within the repeat that ``justify`` spans anyway.
    """
    if ref == alt:
        return 0, ref, alt
    if alt.startswith(ref):
        return len(ref), b"", alt[len(ref) :]
    if ref.startswith(alt):
        return len(alt), ref[len(alt) :], b""
    shared = min(len(ref), len(alt))
    suffix = _common_suffix(ref[-shared:], alt[-shared:])
    ref, alt = ref[: len(ref) - suffix], alt[: len(alt) - suffix]
    shared -= suffix
    prefix = _common_prefix(ref[:shared], alt[:shared])
    return prefix, ref[prefix:], alt[prefix:]


def justify(contig: Contig, start: int, ref: bytes, alt: bytes, near: bytes, first: int) -> Normalized:
    """Steps 2, 4 and 5 for what ``trim`` left.

    ``near`` are the contig's bases from ``first`` on, before ``start`` and beyond ``ref``, as many as are at
    hand; farther ones are fetched where the repeat goes on.
    """
    end = start + len(ref)
    if ref == alt:
        return Normalized(start, end, ref if len(ref) <= SHOWN else None, len(ref), len(ref))
    if ref and alt:
        return Normalized(start, end, alt)
    seed = ref or alt
    left = _roll_left(contig, seed, start, near, start - first)
    right = _roll_right(contig, seed, end, near, end - first)
    start, end = start - left, end + right
    # The reference repeats the seed on both sides, so the expanded alternate is the seed going round.
    rolled = left + right
    if ref:
        return _reference_length(start, end, seed, -left, rolled, len(seed))
    length = rolled + len(seed)
    unit = subunit(seed, rolled)
    if unit is None:
        return Normalized(start, end, _around(seed, -left, right + len(seed)))
    return _reference_length(start, end, seed, -left, length, unit)


def _reference_length(start: int, end: int, seed: bytes, phase: int, length: int, unit: int) -> Normalized:
    """A ReferenceLengthExpression of ``length`` bases: the seed going round from its base ``phase``."""
    sequence = _around(seed, phase, phase + length) if length <= SHOWN else None
    return Normalized(start, end, sequence, length, unit)


def subunit(seed: bytes, reference: int) -> int | None:
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


def _divisors(n: int) -> Iterator[int]:
    """The divisors of n, largest first."""
    small: list[int] = []
    i = 1
    while i * i <= n:
        if n % i == 0:
            yield n // i
            if i * i < n:
                small.append(i)
        i += 1
    yield from reversed(small)


def _around(seed: bytes, start: int, stop: int) -> bytes:
    """Bases [start, stop) of the seed repeated without end in both directions."""
    if stop <= start:
        return b""
    phase = start % len(seed)
    size = stop - start
    return (seed * ((phase + size) // len(seed) + 1))[phase : phase + size]


def _roll_left(contig: Contig, seed: bytes, position: int, near: bytes, at: int) -> int:
    """How many bases before ``position``, which is ``at`` in ``near``, are the seed going round backwards."""
    size, here = len(seed), at
    while here and near[here - 1] == seed[(here - 1 - at) % size]:
        here -= 1
    if here:
        return at - here
    done, step = 0, _FIRST
    while True:
        found = contig.fetch(max(position - done - step, 0), position - done)
        same = _common_suffix(found, _around(seed, -done - len(found), -done))
        done += same
        if same < step:
            return done
        step = min(step * 4, _MOST)


def _roll_right(contig: Contig, seed: bytes, position: int, near: bytes, at: int) -> int:
    """How many bases from ``position`` on, which is ``at`` in ``near``, are the seed going round."""
    size, here, last = len(seed), at, len(near)
    while here < last and near[here] == seed[(here - at) % size]:
        here += 1
    if here < last:
        return here - at
    done, step = 0, _FIRST
    while True:
        found = contig.fetch(position + done, position + done + step)
        same = _common_prefix(found, _around(seed, done, done + len(found)))
        done += same
        if same < step:
            return done
        step = min(step * 4, _MOST)


# Long sequences are compared as integers: the highest byte in which they differ is the first one.


def _common_prefix(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two sequences of one length."""
    difference = int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
    return len(a) - (difference.bit_length() + 7) // 8


def _common_suffix(a: bytes, b: bytes) -> int:
    """Length of the common suffix of two sequences of one length."""
    difference = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
    return len(a) - (difference.bit_length() + 7) // 8
