"""The compiled library that is built from ``native/``; its documentation is in ``native/src/python.rs``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCES: str | None

class Refused(Exception): ...
class Changed(Exception): ...
class Unreadable(Exception): ...

class Engine:
    def __init__(
        self,
        fasta: Path,
        assembly: str,
        lookup: Callable[[bytes], tuple[str, int, int, int, int] | None],
        *,
        for_ref: bool,
        attributes: bool,
        keep_alleles: bool,
        existing: str,
    ) -> None: ...
    def identity(self) -> tuple[int, int, int, int]: ...
    def annotate(self, block: bytes) -> tuple[Any, ...]: ...

def count_lines(text: bytes) -> int: ...
