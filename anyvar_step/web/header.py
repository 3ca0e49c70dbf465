"""What an upload's beginning tells: whether the VRS fields are there, and how long the run will take."""

from __future__ import annotations

from anyvar_step.errors import InvalidInput
from anyvar_step.vcf import VcfReader
from anyvar_step.vcf.bcf import open_vcf
from anyvar_step.vrs.claims import lacking
from anyvar_step.web.upload import Uploaded

#: Bytes of an upload, as it is stored, from which its records are estimated.
SAMPLE = 1 << 20


def refusal_to_ingest(uploaded: Uploaded) -> str:
    """Why the upload cannot be ingested: it is no VCF, or its header lacks VRS fields; empty where it can."""
    staged = uploaded.staged
    try:
        with open_vcf(staged.folder / staged.input_name, uploaded.name) as raw:
            missing = lacking(VcfReader(raw, uploaded.name).header)
    except InvalidInput as error:
        return str(error)
    names = ", ".join(name.decode() for name in missing)
    return f"{uploaded.name} lacks required VRS annotations: {names}" if names else ""


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
