"""Text and BGZF streams of VCF: reading, header edit, writing, index and checks (layer 1).

What callers need most from outside the room; nothing here knows what VRS is.
"""

from __future__ import annotations

from anyvar_step.vcf.index import write_index
from anyvar_step.vcf.reader import VcfReader, check_input, count_records
from anyvar_step.vcf.writer import VcfWriter

__all__ = ["VcfReader", "VcfWriter", "check_input", "count_records", "write_index"]
