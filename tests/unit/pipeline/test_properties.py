"""What holds for any VCF: annotating again, in pieces or in another order gives the same."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pysam
import pytest
from engines import Annotator, current
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import cases, write_case

from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.pipeline.assembly import AssemblyCheck
from anyvar_step.reference import Reference, open_reference
from anyvar_step.vcf.split import Joiner, cut

pytestmark = pytest.mark.usefixtures("engine")

quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
options = st.builds(AnnotateOptions, for_ref=st.booleans(), add_vrs_attributes=st.booleans())


@contextmanager
def prepared(case: tuple[str, list[bytes]]) -> Iterator[tuple[Path, Reference]]:
    """The records as a VCF in a folder of its own, and the reference they belong to."""
    with tempfile.TemporaryDirectory() as name:
        fasta, vcf = write_case(Path(name), *case)
        reference = open_reference("GRCh38", fasta)
        try:
            yield vcf, reference
        finally:
            reference.close()


def annotated(source: Path, target: Path, reference: Reference, chosen: AnnotateOptions) -> bytes:
    annotate_file(
        source,
        target,
        reference,
        chosen,
        check=AssemblyCheck("GRCh38", "in.vcf", force=True),
        engine=current(),
    )
    return target.read_bytes()


@quick
@given(case=cases, first=options, chosen=options)
def test_annotating_twice_is_annotating_once(
    case: tuple[str, list[bytes]], first: AnnotateOptions, chosen: AnnotateOptions
) -> None:
    """Whatever was asked for the first time."""
    with prepared(case) as (vcf, reference):
        once = annotated(vcf, vcf.with_name("once.vcf"), reference, chosen)
        before = vcf.with_name("before.vcf")
        annotated(vcf, before, reference, first)
        assert annotated(before, vcf.with_name("twice.vcf"), reference, chosen) == once


@pytest.mark.quick(2)
@pytest.mark.parametrize("compressed", [False, True], ids=["text", "bgzf"])
@quick
@given(case=cases, chosen=options, pieces=st.integers(2, 9))
def test_cutting_annotating_and_joining_is_annotating(
    compressed: bool, case: tuple[str, list[bytes]], chosen: AnnotateOptions, pieces: int
) -> None:
    genome, lines = case
    copies = 150 if compressed else 5  # several blocks of BGZF, for a border lies in one
    with prepared((genome, lines * copies)) as (vcf, reference):
        whole = annotated(vcf, vcf.with_name("whole.vcf"), reference, chosen)
        source = vcf
        if compressed:
            source = vcf.with_name("in.vcf.gz")
            pysam.tabix_compress(str(vcf), str(source))
        parts = cut(source, source.name, pieces)
        with vcf.with_name("joined.vcf").open("w+b") as out:
            joiner = Joiner(out, "v")
            for number, part in enumerate(parts):
                piece, done = (vcf.with_name(f"{number}.{kind}") for kind in ("piece", "done"))
                with part.open() as stream:
                    piece.write_bytes(stream.read())
                annotated(piece, done, reference, chosen)
                joiner.add(done)
            joiner.close()
            out.seek(0)
            assert out.read() == whole
        assert len(parts) > 1


@quick
@given(case=cases, chosen=options, seed=st.integers())
def test_records_in_another_order_get_the_same_fields(
    case: tuple[str, list[bytes]], chosen: AnnotateOptions, seed: int
) -> None:
    """Each by itself, too: no record's fields depend on its neighbours."""
    with prepared(case) as (_, reference):
        _, lines = case

        def fields(given: list[bytes], size: int) -> dict[bytes, bytes]:
            annotator = Annotator(reference, for_ref=chosen.for_ref, attributes=chosen.add_vrs_attributes)
            blocks = (given[i : i + size] for i in range(0, len(given), size))
            made = [line for block in blocks for line in annotator.annotate(block)]
            return dict(zip(given, made, strict=True))

        shuffled = random.Random(seed).sample(lines, len(lines))
        assert fields(lines, 100) == fields(shuffled, 100) == fields(shuffled, 1)
