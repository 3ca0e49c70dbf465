"""Annotates lines for tests, by the engine that the fixture ``engine`` names: each test runs over both."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from memory_reference import MemoryReference

from anyvar_step.models import Counts, Existing
from anyvar_step.reference import Reference, open_reference
from anyvar_step.vcf.reader import split_lines
from anyvar_step.vrs import Annotated, Engine, EngineChoice, engine_name, make_engine
from anyvar_step.vrs.engine import KeptAlleles

ENGINES: tuple[EngineChoice, ...] = ("python", "native")
#: The engine of the test that runs.
_current: EngineChoice = "python"
#: The references that ``readable`` made for it.
_opened = ExitStack()


@contextmanager
def running(choice: EngineChoice) -> Iterator[EngineChoice]:
    """Tests within annotate with that engine. Skips where it is not built, and fails in CI."""
    global _current
    if choice not in built():
        pytest.skip("SKIPPED: the native engine is not built; `make native` builds it where cargo is")
    before, _current = _current, choice
    try:
        yield choice
    finally:
        _current = before
        _opened.close()


def built() -> tuple[EngineChoice, ...]:
    """The engines that there are, for what is too dear to prepare for each. Fails in CI where one is not."""
    if engine_name() == "native":
        return ENGINES
    if os.environ.get("CI") == "true":
        pytest.fail("the native engine is not built, and CI tests both")
    return ("python",)


def current() -> EngineChoice:
    """The engine of the test that runs."""
    return _current


def readable(reference: Reference) -> Reference:
    """The reference as the current engine can read it: the native one reads no reference held in memory.

    Its FASTA goes when the test ends.
    """
    if _current != "native" or not isinstance(reference, MemoryReference):
        return reference
    folder = Path(_opened.enter_context(tempfile.TemporaryDirectory()))
    contigs = [(contig.name, contig.fetch(0, contig.length).decode()) for contig in reference.contigs()]
    (folder / "reference.fa").write_text(
        "".join(
            f">{name}\n" + "".join(f"{bases[i : i + 60]}\n" for i in range(0, len(bases), 60))
            for name, bases in contigs
        )
    )
    made = open_reference(reference.assembly, folder / "reference.fa")
    _opened.callback(made.close)
    return made


class Annotator:
    """Annotates lines with the current engine; adds the blocks' facts to ``counts``.

    ``last`` has the facts of the last block.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        for_ref: bool,
        attributes: bool,
        keep_alleles: bool = False,
        existing: Existing = "replace",
    ) -> None:
        self.counts = Counts()
        self.last = Annotated()
        self.engine: Engine = make_engine(
            readable(reference),
            for_ref=for_ref,
            attributes=attributes,
            keep_alleles=keep_alleles,
            existing=existing,
            choice=_current,
        )

    @property
    def alleles(self) -> KeptAlleles:
        """Those of the last block."""
        return self.last.alleles

    @property
    def sequences(self) -> dict[str, str]:
        """The refget accessions of the contigs met."""
        return dict(self.engine.sequences)

    def annotate(self, lines: Sequence[bytes]) -> list[bytes]:
        """The lines as one block, annotated. Raises RecordError."""
        self.last = self.engine.annotate(b"".join(line + b"\n" for line in lines))
        self.last.add_to(self.counts)
        return split_lines(self.last.text)
