"""A small real SeqRepo, written by biocommons.seqrepo's own API."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from unittest import mock

#: SeqRepo compresses with the program bgzip; this one does so through pysam's htslib, so that tests need
#: nothing but Python packages.
_BGZIP = """#!{python}
import os, sys, pysam
if sys.argv[1] == "-h":
    print("\\nVersion: 1.16")
else:
    source = sys.argv[-1]
    pysam.tabix_compress(source, source + ".gz", force=True)
    os.unlink(source)
"""


def write_seqrepo(folder: Path, sequences: Mapping[str, Iterable[str]]) -> str:
    """A SeqRepo of these sequences with their ``namespace:alias`` names; its URI."""
    from biocommons.seqrepo import SeqRepo

    bgzip = folder.parent / "bgzip"
    bgzip.write_text(_BGZIP.format(python=sys.executable))
    bgzip.chmod(0o755)
    with mock.patch.dict(os.environ, SEQREPO_BGZIP_PATH=str(bgzip)):
        repo = SeqRepo(str(folder), writeable=True)
        for sequence, names in sequences.items():
            pairs = (name.split(":", 1) for name in names)
            repo.store(sequence, [{"namespace": space, "alias": alias} for space, alias in pairs])
        repo.commit()
    return f"seqrepo+file://{folder}"
