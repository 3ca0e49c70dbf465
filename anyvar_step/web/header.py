"""What an upload's beginning tells: whether the VRS fields are there, and how long the run will take."""

from __future__ import annotations

from anyvar_step.errors import InvalidInput
from anyvar_step.vcf import VcfReader
from anyvar_step.vcf.bcf import open_vcf
from anyvar_step.vrs.fields import ATTRIBUTES, IDS
from anyvar_step.web.upload import Uploaded

#: Bytes of an upload, as it is stored, from which its records are estimated.
SAMPLE = 1 << 20


def lacking_fields(uploaded: Uploaded) -> str:
    """The INFO fields that ingestion needs and the header does not have; empty where all are there."""
    staged = uploaded.staged
    try:
        with open_vcf(staged.folder / staged.input_name, uploaded.name) as raw:
            lines = VcfReader(raw, uploaded.name).header
    except InvalidInput as error:
        return str(error)
    needed = (IDS, *ATTRIBUTES)
    has = {name for name in needed if any(line.startswith(b"##INFO=<ID=%b," % name) for line in lines)}
    return ", ".join(name.decode() for name in needed if name not in has)


def expected_seconds(uploaded: Uploaded, per_record: float) -> int:
    """Seconds that the run will take about, at least 1; from the records in the upload's first part.

    Counted in records, not in bytes, so that compressed uploads get a fair answer, too (CONTRACTS.md §3).
    """
    staged = uploaded.staged
    try:
        with open_vcf(staged.folder / staged.input_name, uploaded.name) as raw:
            reader = VcfReader(raw, uploaded.name)
            records = 0
            for lines in reader.blocks():
                records += len(lines)
                if reader.consumed > SAMPLE:
                    break
            return max(1, round(records * staged.size / reader.consumed * per_record))
    except InvalidInput:
        return 1
