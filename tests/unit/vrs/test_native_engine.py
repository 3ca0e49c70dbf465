"""The two VRS engines give the same bytes, facts and refusals; ``make fuzz`` is a campaign of this."""

from __future__ import annotations

import itertools
import os
import random
import threading
from pathlib import Path

import pytest
from fuzzing import CASES, SEED
from record_blocks import OPTIONS, Blocks, answer, differences

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import open_reference
from anyvar_step.reference.base import MaskedReference
from anyvar_step.vrs import engine_name, make_engine
from anyvar_step.vrs.python_engine import PythonEngine

if engine_name() != "native" and os.environ.get("CI") != "true":
    pytest.skip("SKIPPED: the native engine is not built; `make native` does it", allow_module_level=True)

from anyvar_step.vrs import native_engine

SNV = b"chr1\t%d\t.\t%b\t%b\t.\t.\t.\n"


def written(path: Path, **sequences: str) -> Path:
    lines = []
    for name, bases in sequences.items():
        lines += [f">{name}\n", *(f"{bases[i : i + 60]}\n" for i in range(0, len(bases), 60))]
    path.write_text("".join(lines))
    return path


def test_the_engines_agree_on_records_of_all_kinds_and_mutated_ones(tmp_path):
    blocks = Blocks(tmp_path, SEED)
    reference = open_reference("GRCh38", blocks.fasta)
    pairs = [
        (PythonEngine(reference, **options), native_engine.NativeEngine(reference, **options))
        for options in OPTIONS
    ]
    refused = 0
    for case, engines in zip(range(CASES), itertools.cycle(pairs), strict=False):
        block = blocks.block()
        assert not differences(engines, block), f"FUZZ_SEED={SEED}, case {case}, {OPTIONS[case % len(pairs)]}"
        refused += "refused" in answer(engines[0], block)
    assert 0 < refused < CASES / 2


def test_a_long_deletion_and_a_long_insertion_have_the_same_alleles_in_both(tmp_path):
    draw = random.Random(3)
    bases = "".join(draw.choices("ACGT", k=200_000))
    bases = bases[:90_000] + "CAG" * 40_000 + bases[90_000:]
    reference = open_reference("GRCh38", written(tmp_path / "long.fa", chr1=bases))
    lines = []
    for size in (100, 1_000, 60_000, 100_000):
        lines += [SNV % (1_000, bases[999 : 999 + size].encode(), bases[999:1000].encode())]
        lines += [SNV % (2_000, bases[1999:2000].encode(), bases[1999 : 1999 + size].encode())]
        lines += [SNV % (90_001, b"C", b"CAG" * size + b"C")]
    options = {"for_ref": True, "attributes": True, "keep_alleles": True, "existing": "replace"}
    engines = PythonEngine(reference, **options), native_engine.NativeEngine(reference, **options)
    assert not differences(engines, b"".join(lines))
    assert answer(engines[1], b"".join(lines))["ids"] == 2 * len(lines)


def test_masked_contigs_and_aliases_are_the_same_in_both(tmp_path):
    fasta = written(tmp_path / "two.fa", chr1="ACGTACGT", chr2="TTTT")
    reference = MaskedReference(open_reference("GRCh38", fasta), ["chr2"])
    assert make_engine(reference, for_ref=True, attributes=True).name == "native"
    options = {"for_ref": True, "attributes": True, "keep_alleles": True, "existing": "replace"}
    engines = PythonEngine(reference, **options), native_engine.NativeEngine(reference, **options)
    block = b"1\t2\t.\tC\tG\t.\t.\t.\nchr2\t1\t.\tT\tG\t.\t.\t.\nchr1\t2\t.\tC\tG\t.\t.\t.\n"
    assert not differences(engines, block)
    assert answer(engines[1], block)["unknown"] == [(b"chr2", 1)]
    assert set(engines[0].sequences) == set(engines[1].sequences) == {"1", "chr1"}


def test_the_library_is_that_of_the_sources():
    assert not native_engine.is_stale(), "run `make native`"


def test_contigs_whose_records_all_keep_their_fields_are_among_the_sequences(tmp_path):
    reference = open_reference("GRCh38", written(tmp_path / "kept.fa", chr1="ACGT"))
    options = {"for_ref": True, "attributes": False, "existing": "keep"}
    for engine in (PythonEngine(reference, **options), native_engine.NativeEngine(reference, **options)):
        assert engine.annotate(b"chr1\t1\t.\tA\tC\t.\t.\tVRS_Allele_IDs=x\n").kept == 1
        assert set(engine.sequences) == {"chr1"}


def test_threads_share_one_engine(tmp_path):
    blocks = Blocks(tmp_path, SEED + 1)
    reference = open_reference("GRCh38", blocks.fasta)
    options = {"for_ref": True, "attributes": True, "keep_alleles": True, "existing": "replace"}
    given = [blocks.block() for _ in range(40)]
    expected = [answer(PythonEngine(reference, **options), block) for block in given]
    engine, wrong = native_engine.NativeEngine(reference, **options), []

    def annotate() -> None:
        wrong.extend(
            block for block, known in zip(given, expected, strict=True) if answer(engine, block) != known
        )

    threads = [threading.Thread(target=annotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("make", [PythonEngine, native_engine.NativeEngine])
def test_a_fasta_that_is_cut_short_ends_the_run_and_not_the_process(tmp_path, make):
    draw = random.Random(5)
    bases = "".join(draw.choices("ACGT", k=3_000_000))
    fasta = written(tmp_path / "cut.fa", chr1=bases)
    engine = make(open_reference("GRCh38", fasta), for_ref=True, attributes=True)
    first = SNV % (10, bases[9].encode(), b"N")
    far = SNV % (1_500_000, bases[1_499_999].encode(), b"N")
    assert engine.annotate(first).ids == 2
    os.truncate(fasta, 4096)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"cut\.fa was changed while it was in use") as error:
            engine.annotate(first + far)
        assert error.value.remedy
    written(fasta, chr1=bases)
    engine = make(open_reference("GRCh38", fasta), for_ref=True, attributes=True)
    assert engine.annotate(first + far).ids == 4


def test_another_fasta_under_the_name_of_the_one_that_was_opened_is_refused(tmp_path):
    fasta = written(tmp_path / "a.fa", chr1="ACGT")
    reference = open_reference("GRCh38", fasta)
    written(tmp_path / "b.fa", chr1="TTTT").replace(fasta)
    with pytest.raises(ConfigurationError, match="was changed while"):
        native_engine.NativeEngine(reference, for_ref=True, attributes=True)
