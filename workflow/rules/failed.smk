# Where a sample fails, summary.smk has not all of its input. Then page and sections are made of the reports that are
# there, and name the samples that failed.

import os
import shutil
import subprocess
from pathlib import Path

from snakemake.logging import logger


def show_failed(reports, output, log):
    """Make the summary's outputs from those of its inputs that exist."""
    there = [Path(path) for path in reports if os.path.exists(path)]
    failed = sorted({Path(path).stem for path in reports if not os.path.exists(path)})
    options = [f"--failed={sample}" for sample in failed]
    shutil.rmtree(output.multiqc, ignore_errors=True)
    try:
        shell(
            "anyvar-step report {there:q} {options:q} -o {output.page:q} --multiqc {output.multiqc:q} 2> {log:q}"
        )
    except subprocess.CalledProcessError:
        logger.error(f"{output.page} could not be made, see {log}")
        return
    # Older than all it is made of: the next call makes it again, also where the sheet lacks the sample then.
    age = min((path.stat().st_mtime for path in there), default=1) - 1
    os.utime(output.page, (age, age))
    logger.error(
        f"{output.page} names what failed: {len(failed)} of {len(SAMPLES)} samples"
    )


onerror:
    # Not where the page was not asked for, and not after Ctrl-C, when jobs were still at work.
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "summary" and not workflow.scheduler.running:
            show_failed(job.input, job.output, job.log)
