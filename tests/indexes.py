"""Is an index that was made without reading the file the one that htslib makes of it?"""

from __future__ import annotations

import random
from pathlib import Path

import pysam

from anyvar_step.vcf import index, write_index


def check_as_htslibs(made: Path, path: Path, records: int, draw: random.Random, reach: int) -> None:
    """Contigs, counts and windows are those of htslib's index, and regions up to ``reach`` find the same."""
    ours, htslibs = index.read_tbi(made), index.read_tbi(write_index(path))
    assert list(ours) == list(htslibs)
    for chrom, contig in ours.items():
        other = htslibs[chrom]
        assert (contig.begin, contig.records, contig.windows) == (other.begin, other.records, other.windows)
    with pysam.TabixFile(str(path), index=str(made)) as mine, pysam.TabixFile(str(path)) as theirs:
        assert sum(1 for _ in mine.fetch()) == records
        for _ in range(60 if ours else 0):
            begin = draw.randint(0, draw.choice([1000, 10**6, reach]))
            region = draw.choice(mine.contigs), begin, begin + draw.choice([1, 10**4, 10**6, reach + 1])
            assert list(mine.fetch(*region)) == list(theirs.fetch(*region))
