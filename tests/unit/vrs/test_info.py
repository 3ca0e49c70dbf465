"""How INFO is joined with the VRS fields, and what is counted of columns, in both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import open_reference
from anyvar_step.vrs.engine import Engine, make_engine


@pytest.fixture(params=["python", "native"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    fasta = tmp_path / "ref.fa"
    fasta.write_text(">chr1\n" + "ACGTTTTGCA" * 6 + "\n")
    reference = open_reference("GRCh38", fasta)
    try:
        yield make_engine(reference, for_ref=True, attributes=False, choice=request.param)
    except ConfigurationError as error:
        pytest.skip(str(error))
    finally:
        reference.close()


@pytest.mark.parametrize(
    ("info", "before"),
    [
        ("DP=3", "DP=3;"),
        ("DP=3;", "DP=3;"),
        (";DP=3", ";DP=3;"),
        ("DP=", "DP=;"),
        (".", ""),
        ("", ""),
        ("DP=1;;X", "DP=1;;X;"),
        ("DP=1;;", "DP=1;;"),
        ("A=b c;Q=a=b", "A=b c;Q=a=b;"),
        (".;DP=4", ".;DP=4;"),
        (";", ";"),
        ("VRS_Error=x;DP=3;", "DP=3;"),
        ("GENE=A;STRAND=+;GENE=A;STRAND=+;SNP", "GENE=A;STRAND=+;GENE=A;STRAND=+;SNP;"),
    ],
)
def test_info_that_ends_with_a_semicolon_gets_no_second_one(engine: Engine, info: str, before: str) -> None:
    text = engine.annotate(f"chr1\t2\t.\tC\tN\t.\tPASS\t{info}\n".encode()).text.decode()
    assert text.split("\t")[7].startswith(f"{before}VRS_Allele_IDs=ga4gh:VA.")
    assert text.count("ga4gh:VA.") == 2


def test_records_are_counted_by_their_number_of_columns(engine: Engine) -> None:
    rows = [["chr1", "2", ".", "C", "N", ".", "PASS", ".", *more] for more in (["GT", "0/1"], ["GT"], [])]
    lines = ["\t".join(row) for row in (*rows, rows[0])]
    assert engine.annotate("".join(f"{line}\n" for line in lines).encode()).columns == {10: 2, 9: 1, 8: 1}
