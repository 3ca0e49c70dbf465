"""Which engine annotates, and that both say the same of every block."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from engines import running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import cases, write_case
from memory_reference import MemoryReference

from anyvar_step.cli import cli
from anyvar_step.errors import ConfigurationError
from anyvar_step.models import Existing
from anyvar_step.reference import open_reference
from anyvar_step.settings import load
from anyvar_step.vrs import RecordError, engine, engine_name, make_engine


def test_the_python_engine_annotates_where_the_native_one_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_is_built", lambda: False)
    reference = MemoryReference(chr1=b"ACGT")
    assert engine_name("auto") == engine_name("python") == "python"
    assert make_engine(reference, for_ref=True, attributes=True).name == "python"
    with pytest.raises(ConfigurationError, match="native engine is not built"):
        make_engine(reference, for_ref=True, attributes=True, choice="native")


def test_the_native_engine_annotates_over_a_plain_fasta_alone(tmp_path: Path) -> None:
    fasta, _ = write_case(tmp_path, "ACGT", [])
    with running("native"):
        plain, memory = open_reference("GRCh38", fasta), MemoryReference(chr1=b"ACGT")
        assert engine_name("auto") == engine_name("native") == "native"
        assert make_engine(plain, for_ref=True, attributes=True).name == "native"
        assert make_engine(plain, for_ref=True, attributes=True, choice="python").name == "python"
        assert make_engine(memory, for_ref=True, attributes=True).name == "python"
        with pytest.raises(ConfigurationError, match="cannot read the reference of GRCh38"):
            make_engine(memory, for_ref=True, attributes=True, choice="native")
        plain.close()


def facts(made: engine.Engine, block: bytes) -> dict[str, Any] | tuple[int, str, str]:
    """All that the engine says of a block, or its refusal."""
    try:
        found = made.annotate(block)
    except RecordError as refused:
        return refused.index, refused.reason, refused.remedy
    said = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    said["digests"] = list(found.alleles.digests)
    return {
        key: list(value) if key in ("alleles", "starts", "ends", "offsets") else value
        for key, value in said.items()
    }


#: Ends and symbolic alleles for the index, VRS fields that are there already, and lines that are no records.
spice = st.sampled_from(
    [
        b"chr1\t1\t.\tA\tC\t.\t.\tEND=7",
        b"chr1\t1\t.\tA\tC\t.\t.\tVRS_Allele_IDs=x;DP=4;SVLEN=3",
        b"chr1\t1\t.\tA\tC\t.\t.\tVRS_Error=y",
        b"chr1\t2\t.\t\tC\t.\t.\t",
        b"chr2\t0\t.\tA\t\t.\t.\t.",
        b"\t5\t.\tA\tG\t.\t.\t.",
        b"chr1\t1\t.\tA\tC\t.\t.",
        b"chr1\t1x\t.\tA\tC\t.\t.\t.",
        b"chr1\t99999999999999999999\t.\tA\tC\t.\t.\t.",
        b"chr1\t9999999999999999999\t.\tA\tC\t.\t.\t.",
        b"chr1\t4611686018427387905\t.\tA\tC\t.\t.\t.",
        b"chr1\t4611686018427387904\t.\tA\tC\t.\t.\tDP=1;",
        b"",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    case=cases,
    odd=st.lists(st.tuples(st.integers(0, 40), spice), max_size=2),
    for_ref=st.booleans(),
    attributes=st.booleans(),
    existing=st.sampled_from(["replace", "keep", "error"]),
)
def test_both_engines_say_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[str, list[bytes]],
    odd: list[tuple[int, bytes]],
    for_ref: bool,
    attributes: bool,
    existing: Existing,
) -> None:
    genome, lines = case
    for place, line in odd:
        lines = [*lines[:place], line, *lines[place:]]
    fasta, _ = write_case(tmp_path_factory.mktemp("case"), genome, lines)
    reference = open_reference("GRCh38", fasta)
    try:
        with running("native"):
            python, native = (
                make_engine(
                    reference,
                    for_ref=for_ref,
                    attributes=attributes,
                    keep_alleles=True,
                    existing=existing,
                    choice=choice,
                )
                for choice in ("python", "native")
            )
            block = b"".join(line + b"\n" for line in lines)
            assert facts(native, block) == facts(python, block)
            assert native.sequences == python.sequences
    finally:
        reference.close()


def test_the_version_says_which_engine_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for choice, expected in (("python", "python engine"), ("auto", f"{engine_name()} engine")):
        monkeypatch.setenv("ANYVAR_STEP_ENGINE", choice)
        assert expected in CliRunner().invoke(cli, ["--version"]).output


def test_an_engine_that_there_is_not_is_no_setting() -> None:
    assert load({}).engine == "auto"
    assert load({}).threads == 1
    for variable, value in (("ANYVAR_STEP_ENGINE", "rust"), ("ANYVAR_STEP_THREADS", "0")):
        with pytest.raises(ConfigurationError, match=variable):
            load({variable: value})
