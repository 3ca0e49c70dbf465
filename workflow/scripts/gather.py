"""Puts the annotated pieces of a VCF together: one header, the records in order, an index, one report.

The pieces' BGZF blocks are copied, not packed again. Fails where the records are not as many as the input's.
"""

import sys
from pathlib import Path

import pysam
import pysam.bcftools

from anyvar_step.files import file_sha256
from anyvar_step.models import RunReport
from anyvar_step.pipeline.assembly import with_notes


def records(vcf):
    """The number of records, as the index has it."""
    return int(pysam.bcftools.index("--nrecords", vcf))


def concatenate(pieces, target):
    """Write the VCF and its index."""
    pysam.bcftools.concat("--naive", "--no-version", "-o", target, *pieces, catch_stdout=False)
    pysam.tabix_index(target, preset="vcf", force=True)


def merged(reports, source, target):
    """One report of the pieces'."""
    pieces = [RunReport.model_validate_json(Path(path).read_bytes()) for path in reports]
    whole = RunReport.merged(
        pieces,
        input_name=Path(source).name,
        input_size=Path(source).stat().st_size,
        input_sha256=file_sha256(Path(source)),
        output_size=Path(target).stat().st_size,
        output_sha256=file_sha256(Path(target)),
    )
    return with_notes(whole, pieces)


def main(source, pieces, reports, target, report):
    """Write the whole VCF, its index and its report."""
    concatenate(pieces, target)
    given, gathered = records(source), records(target)
    if gathered != given:
        sys.exit(f"the pieces of {source} have {gathered} records, its index counts {given}: index it again")
    whole = merged(reports, source, target)
    Path(report).write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")


sys.stderr = Path(snakemake.log[0]).open("w")
main(
    snakemake.input.vcf,
    snakemake.input.pieces,
    snakemake.input.reports,
    snakemake.output.vcf,
    snakemake.output.report,
)
