"""What is quick about insertions and deletions shows nowhere but in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memory_reference import MemoryReference

from anyvar_step.vrs import Annotator
from anyvar_step.vrs.indel import Indels

Outcome = tuple[bytes, dict[str, int], list[object]]


@contextmanager
def counted(*, quick: bool) -> Iterator[list[bool]]:
    """For each record that is no SNV, whether it was done quickly; none is unless ``quick``."""
    taken: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        field = Indels.field

        def watched(*arguments: object) -> bytes | None:
            found = field(*arguments) if quick else None  # type: ignore[arg-type]
            taken.append(found is not None)
            return found

        patch.setattr(Indels, "field", watched)
        yield taken


def outcome(
    genome: bytes, records: list[tuple[int, bytes, bytes]], *, for_ref: bool, attributes: bool
) -> Outcome:
    annotator = Annotator(
        MemoryReference(chr1=genome), for_ref=for_ref, attributes=attributes, keep_alleles=True
    )
    lines = [b"chr1\t%d\t.\t%b\t%b\t.\t.\t." % (start + 1, ref, alt) for start, ref, alt in records]
    return annotator.text(lines), annotator.counts.alleles, list(annotator.alleles)


@st.composite
def indels(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes, bytes]]]:
    """A genome of short repeats, and insertions and deletions of its own sequence and of others."""
    units = st.tuples(st.text("ACGT", min_size=1, max_size=5), st.integers(1, 20))
    genome = "".join(unit * times for unit, times in draw(st.lists(units, min_size=4, max_size=30))).encode()
    records = []
    for start in draw(st.lists(st.integers(0, len(genome) - 2), min_size=1, max_size=12)):
        base = genome[start : start + 1]
        longer = genome[start : start + draw(st.integers(2, 60))]
        others = draw(st.text("ACGTacgtN", min_size=1, max_size=60)).encode()
        what = st.sampled_from(
            [(longer, base), (base, longer), (base, base + others), (longer, longer + others)]
        )
        records.append((start, *draw(what)))
    return genome, records


@given(case=indels(), for_ref=st.booleans(), attributes=st.booleans())
@settings(max_examples=400, deadline=None)
@example(
    case=(b"C" * 30 + b"GATTACA" + b"C" * 30, [(32, b"TTA", b"T"), (32, b"T", b"TTA")]),
    for_ref=True,
    attributes=True,
)
def test_fields_counts_and_alleles_are_those_of_the_translator(
    case: tuple[bytes, list[tuple[int, bytes, bytes]]], for_ref: bool, attributes: bool
) -> None:
    genome, records = case
    with counted(quick=False):
        wanted = outcome(genome, records, for_ref=for_ref, attributes=attributes)
    assert outcome(genome, records, for_ref=for_ref, attributes=attributes) == wanted


BEFORE, AFTER = b"GATC" * 10, b"TACG" * 10
#: Nothing in it repeats.
UNIT = b"AACAGCCTCGGTTAGTATCCATGAGGCAAGACGTACCCTGATTGA"


@pytest.mark.parametrize(
    ("middle", "ref", "alt", "quick"),
    [
        (b"AC", b"AC", b"A", True),
        (b"A", b"A", b"ACCC", True),
        (b"A" + b"CA" * 10, b"A", b"ACA", True),
        (b"A" + b"C" * 24, b"A", b"AC", False),
        (b"A" + b"C" * 60, b"A" + b"C" * 55, b"A", False),
        (b"C" + UNIT[:19], b"C", b"C" + UNIT[:30], True),
        (b"C" + UNIT[:21], b"C", b"C" + UNIT[:30], False),
        (b"AC", b"ac", b"a", False),
        (b"AC", b"AG", b"A", False),
        (b"AC", b"AC", b"T", False),
        (b"A", b"A", b"AN", False),
        (b"A", b"A", b"AC,AG", False),
        (b"AC", b"AC", b"AT", False),
        (b"A", b"A", b"<DEL>", False),
    ],
)
def test_what_most_insertions_and_deletions_look_like_is_quick(
    middle: bytes, ref: bytes, alt: bytes, quick: bool
) -> None:
    genome, records = BEFORE + middle + AFTER, [(len(BEFORE), ref, alt)]
    with counted(quick=True) as taken:
        found = outcome(genome, records, for_ref=True, attributes=True)
    assert taken == [quick]
    with counted(quick=False):
        assert outcome(genome, records, for_ref=True, attributes=True) == found
