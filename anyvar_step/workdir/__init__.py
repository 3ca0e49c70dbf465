"""The shared work dir: stage, publish, collect. Every rename and fsync of a run lives here.

    <work dir>/<yyyymmdd>/<run id>/input.vcf[.gz]               staged by the step
                                   manifest.json                what the step says of it
                                   input.vcf[.gz]_outputvcf     published by the worker
                                   input.vcf.gz_outputvcf.<its SHA-256>.tbi    its index
                                   input.vcf[.gz]_conflictlog   the same for an ingested VCF
                                   input.vcf[.gz]_report.json   what our worker says of it

A file or folder appears under its name only when it is whole: it is written under a name that begins with a
dot, fsynced, and renamed. Nothing is renamed over an existing name, since another host's NFS client may then
see no file at all for a while (PITFALLS.md 16).
"""

from anyvar_step.workdir.entries import CONFLICTS_SUFFIX, MANIFEST, OUTPUT_SUFFIX, REPORT_SUFFIX, index_of
from anyvar_step.workdir.staging import Staged, Staging
from anyvar_step.workdir.tree import WorkDir

__all__ = [
    "CONFLICTS_SUFFIX",
    "MANIFEST",
    "OUTPUT_SUFFIX",
    "REPORT_SUFFIX",
    "Staged",
    "Staging",
    "WorkDir",
    "index_of",
]
