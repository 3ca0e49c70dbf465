# Where a sample fails, the rule summary has not all of its input and does not run. Then page and MultiQC sections are
# made of the reports that exist, and name the samples that failed.
#
# Snakemake calls the onerror of the outer workflow only. A workflow that uses this one as a module includes this file;
# one that has an onerror of its own calls show_failures(workflow) in it.

import os
import shutil
import subprocess
from pathlib import Path

from snakemake.logging import logger


def log_of(sample, reports):
    """The log of the sample's last rule; empty where there is none."""
    roots = {Path(path).parents[2] for path in reports if Path(path).stem == sample}
    logs = [
        root / "logs" / rule / f"{sample}.log"
        for root in roots
        for rule in ("annotate", "ingest")
    ]
    found = [log for log in logs if log.exists()]
    return max(found, key=lambda log: log.stat().st_mtime, default="")


def make_page(reports, output, log):
    """Make the outputs of the rule summary from those of its inputs that exist."""
    there = [Path(path) for path in reports if os.path.exists(path)]
    failed = sorted({Path(path).stem for path in reports if not os.path.exists(path)})
    samples = {Path(path).stem for path in reports}
    logs = {sample: log_of(sample, reports) for sample in failed}
    options = [
        f"--failed={sample}={logs[sample]}" if logs[sample] else f"--failed={sample}"
        for sample in failed
    ]
    shutil.rmtree(output.multiqc, ignore_errors=True)
    for path in (output.page, log[0]):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        shell(
            "anyvar-step report {there:q} {options:q} -o {output.page:q} --multiqc {output.multiqc:q} 2> {log:q}"
        )
    except subprocess.CalledProcessError:
        logger.error(f"{output.page} could not be made, see {log}")
        return
    # Older than all its inputs: the next call makes it again, also where the sample has left the sheet.
    age = min((path.stat().st_mtime for path in there), default=1) - 1
    os.utime(output.page, (age, age))
    logger.error(
        f"{output.page} names what failed: {len(failed)} of {len(samples)} samples"
    )


def show_failures(workflow):
    """Make the page for each rule summary that did not run.

    Not where the page was not asked for, and not after Ctrl-C, when jobs were still at work.
    """
    if workflow.scheduler.running:
        return
    for job in workflow.dag.needrun_jobs():
        if job.rule.name.endswith("summary") and set(job.output.keys()) == {
            "page",
            "multiqc",
        }:
            make_page(job.input, job.output, job.log)


onerror:
    show_failures(workflow)
