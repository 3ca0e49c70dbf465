"""Text and BGZF streams of VCF: reading, header edit, writing, index and checks (layer 1).

What a caller needs from outside the room; nothing here knows what VRS is.
"""

from __future__ import annotations

from anyvar_step.vcf.bgzf import BgzfWriter
from anyvar_step.vcf.blocks import read_blocks
from anyvar_step.vcf.check import Verified, check_input, count_records, verify_output
from anyvar_step.vcf.header import with_fields
from anyvar_step.vcf.index import write_index
from anyvar_step.vcf.stream import VcfReader
from anyvar_step.vcf.writer import VcfWriter

__all__ = [
    "BgzfWriter",
    "VcfReader",
    "VcfWriter",
    "Verified",
    "check_input",
    "count_records",
    "read_blocks",
    "verify_output",
    "with_fields",
    "write_index",
]
