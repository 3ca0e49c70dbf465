"""Normalization against a slow but plain reading of the rules, and its cost for very long repeats."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memory_reference import MemoryContig

from anyvar_step.vrs.normalize import Normalized, normalize, trim


def whole(contig: MemoryContig, start: int, ref: bytes, alt: bytes) -> Normalized:
    """Steps 2 to 5, as an engine puts them together."""
    change = trim(ref, alt)
    return normalize(contig, start + change.prefix, change.ref, change.alt)


def plainly(genome: bytes, start: int, ref: bytes, alt: bytes) -> Normalized:
    """Steps 2 to 5 of docs/contract.md#vrs-normalization, base by base."""
    if ref == alt:
        return Normalized(start, start + len(ref), ref if len(ref) <= 50 else None, len(ref), len(ref))
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    end = start + len(ref)
    if ref and alt:
        return Normalized(start, end, alt)
    seed = ref or alt
    left = right = 0
    while start - left > 0 and genome[start - left - 1] == seed[-(left % len(seed)) - 1]:
        left += 1
    while end + right < len(genome) and genome[end + right] == seed[right % len(seed)]:
        right += 1
    before, after = genome[start - left : start], genome[end : end + right]
    reference, alternate = before + ref + after, before + alt + after
    shown = alternate if len(alternate) <= 50 else None
    start, end = start - left, end + right
    if not reference:
        return Normalized(start, end, alternate)
    if len(alternate) < len(reference):
        return Normalized(start, end, shown, len(alternate), len(seed))
    for unit in range(min(len(seed), len(reference)), 0, -1):
        added = alternate[len(reference) :]
        cycle = reference[-unit:] * len(added)
        if len(seed) % unit == 0 and cycle.startswith(added):
            return Normalized(start, end, shown, len(alternate), unit)
    return Normalized(start, end, alternate)


units = st.text("AC", min_size=1, max_size=5).map(str.encode)
genomes = st.lists(st.builds(lambda u, n: u * n, units, st.integers(1, 60)), min_size=1, max_size=5).map(
    b"".join
)


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, int, bytes, bytes]:
    genome = draw(genomes)
    start = draw(st.integers(0, len(genome) - 1))
    ref = genome[start : start + draw(st.integers(1, 12))]
    around = genome[max(0, start - 20) : start + 20]
    alt = draw(st.one_of(st.text("ACG", min_size=1, max_size=14).map(str.encode), st.just(ref + around)))
    return genome, start, ref, alt


@given(changes())
@example((b"AAAA", 0, b"AA", b"AAAAAA"))
@example((b"GCAGC", 0, b"G", b"GCAGC"))
@example((b"C" + b"A" * 49 + b"G", 0, b"C", b"CA"))  # 50 bases are shown
@example((b"C" + b"A" * 50 + b"G", 0, b"C", b"CA"))  # 51 are not
def test_intervals_and_states_are_those_of_the_rules(change: tuple[bytes, int, bytes, bytes]) -> None:
    genome, start, ref, alt = change
    assert whole(MemoryContig("c", genome), start, ref, alt) == plainly(genome, start, ref, alt)


@pytest.mark.parametrize(
    ("ref", "alt", "left"),
    [
        (b"CAG", b"CG", (1, b"A", b"")),
        (b"A", b"A", (0, b"A", b"A")),
        (b"ACT", b"AGT", (1, b"C", b"G")),
        (b"AT", b"ATT", (1, b"", b"T")),
        (b"TCC", b"TTAGG", (1, b"CC", b"TAGG")),
    ],
)
def test_trimming_takes_what_both_share(ref: bytes, alt: bytes, left: tuple[int, bytes, bytes]) -> None:
    assert trim(ref, alt) == left


def test_a_repeat_of_a_million_bases_is_read_in_few_long_pieces() -> None:
    contig = MemoryContig("c", b"G" + b"A" * 1_000_000 + b"T")
    assert whole(contig, 500_000, b"AA", b"A") == Normalized(1, 1_000_001, None, 999_999, 1)
    assert whole(contig, 0, b"G", b"GAA") == Normalized(1, 1_000_001, None, 1_000_002, 2)
    assert contig.fetches < 60


def test_an_insertion_of_a_hundred_thousand_bases_keeps_its_interval() -> None:
    contig = MemoryContig("c", b"ACGT" * 10)
    seed = b"T" + b"G" * 99_998 + b"A"
    found = whole(contig, 4, b"A", b"A" + seed)
    assert found == plainly(b"ACGT" * 10, 4, b"A", b"A" + seed)
    assert contig.fetches < 6


def test_a_hundred_thousand_base_repeat_in_the_alternate_is_one_unit() -> None:
    contig = MemoryContig("c", b"T" + b"AC" * 20 + b"G")
    assert whole(contig, 0, b"T", b"T" + b"AC" * 50_000) == Normalized(1, 41, None, 100_040, 40)
