"""ga4gh.vrs's own VcfAnnotator as a process in its own environment, and what of its answers we expect.

Its Python is ANYVAR_STEP_ORACLE_PYTHON or ``.venv-oracle/bin/python`` (``make test-all`` makes that).
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from pythons import python_of
from support import ROOT

SCRIPT = ROOT / "tests" / "oracle" / "annotate.py"
NUCLEOTIDES = re.compile(rb"[ACGTURYKMSWBDHVN]+", re.IGNORECASE)
ATTRIBUTES = [b"VRS_Starts", b"VRS_Ends", b"VRS_States", b"VRS_Lengths", b"VRS_RepeatSubunitLengths"]


class Oracle:
    """The reference annotator as a process that takes one job per line."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, SCRIPT, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def annotate(self, fasta: Path | str, vcf: Path, out: Path, *flags: str) -> list[bytes]:
        """The record lines of its output."""
        answer = self.ask(fasta, vcf, out, *flags)
        assert answer == "ok", answer
        return records(out)

    def ask(self, fasta: Path | str, vcf: Path, out: Path, *flags: str) -> str:
        """``ok``, or its error for the whole file."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(shlex.join([str(fasta), str(vcf), str(out), *flags]) + "\n")
        return self._process.stdout.readline().rstrip("\n")

    def close(self) -> None:
        """End it and wait."""
        self._process.communicate()


@contextmanager
def running() -> Iterator[Oracle]:
    """The reference annotator; the test is skipped, and fails under CI, where it is not installed."""
    python = python_of("oracle", "ga4gh.vrs[extras]", "NOT CHECKED AGAINST THE REFERENCE IMPLEMENTATION")
    process = Oracle(python)
    yield process
    process.close()


def records(vcf: Path) -> list[bytes]:
    return [line for line in vcf.read_bytes().split(b"\n") if line and not line.startswith(b"#")]


def vrs_fields(line: bytes) -> dict[bytes, bytes]:
    items = (item.partition(b"=") for item in line.split(b"\t")[7].split(b";"))
    return {key: value for key, _, value in items if key.startswith(b"VRS_")}


def cut(message: bytes) -> bytes:
    """The message with its sequences cut at 50 bases."""
    return re.sub(rb"'([A-Z]{50})[A-Z]*'", rb"'\1'", message)


def expected(theirs: bytes, line: bytes, for_ref: bool) -> dict[bytes, bytes]:
    """The reference implementation's fields with our deviations (docs/contract.md#vrs-differences).

    An ALT that only begins with nucleotides (breakends) is no sequence; a field without value is not
    written; REF is checked only where an allele is translated; an error shows 50 bases of a sequence.
    """
    fields = vrs_fields(theirs)
    ref, alts = line.split(b"\t")[3:5]
    listed = [] if alts == b"." else alts.split(b",")
    alleles = [ref, *listed] if for_ref else listed
    readable = [bool(NUCLEOTIDES.fullmatch(allele)) for allele in alleles]
    if not alleles:
        return {}
    if b"VRS_Error" in fields:
        if any(readable):
            return {b"VRS_Error": cut(fields[b"VRS_Error"])}
        names = [b"VRS_Allele_IDs", *(ATTRIBUTES if for_ref else [])]
        return dict.fromkeys(names, b",".join([b"."] * len(alleles)))
    return {
        name: b",".join(
            value if known else b"." for known, value in zip(readable, text.split(b","), strict=True)
        )
        for name, text in fields.items()
    }


def unescaped(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Ours with the error's text as the reference implementation writes it."""
    return {
        key: unquote(value.decode()).encode() if key == b"VRS_Error" else value
        for key, value in fields.items()
    }
