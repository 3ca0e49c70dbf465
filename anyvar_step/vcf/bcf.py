"""BCF, VCF's binary sibling: told by its first bytes, and read as the VCF that htslib makes of it."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from anyvar_step.vcf.check import open_input
from anyvar_step.vcf.view import view

#: Bytes in which a BGZF file's first block shows what it holds.
HEAD = 512


def is_bcf(head: bytes) -> bool:
    """Whether a file's first bytes begin a BCF, compressed as usual or not (VCF 4.3 §6)."""
    if head.startswith(b"\x1f\x8b"):
        with contextlib.suppress(zlib.error):
            head = zlib.decompressobj(31).decompress(head, 3)
    return head.startswith(b"BCF")


@contextlib.contextmanager
def open_vcf(path: Path, name: str) -> Iterator[BinaryIO]:
    """The VCF at ``path``, or the text of a BCF, which is not seekable.

    Raises InputNotFound or InvalidInput, also from reading.
    """
    with open_input(path, name) as raw:
        if not is_bcf(raw.peek(HEAD)):  # type: ignore[attr-defined]
            yield raw
            return
    with view(["-Ov", str(path.absolute())], None, name) as text:
        yield text
