"""Snakemake wrapper: annotate a VCF with GA4GH VRS identifiers."""

from shlex import quote

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
report = snakemake.output.get("report", "")
if report:
    report = f"--report {quote(report)}"
log = snakemake.log_fmt_shell(stdout=False, stderr=True)

shell("anyvar-step annotate {snakemake.input.vcf:q} -o {snakemake.output.vcf:q} {report} {extra} {log}")
