# Config and sample sheet: read, checked against the schemas, and turned into paths and options for the rules.

import csv
import difflib
import os

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate


def check(data, schema, where):
    """Fill in defaults; raise WorkflowError with one line: the file, the wrong key, the reason."""
    try:
        validate(data, schema=schema)
    except WorkflowError as error:
        raise WorkflowError(f"{where}: {explained(error.__context__)}") from None


def explained(error):
    """The key and the reason of a jsonschema.ValidationError."""
    path, schema, reason = list(error.absolute_path), error.schema, error.message
    if "allOf" in error.absolute_schema_path:  # keys that exclude each other
        reason = schema["description"]
    elif error.validator == "required":
        path += [key for key in schema["required"] if key not in error.instance][:1]
        reason = "is missing"
    elif error.validator == "additionalProperties":
        unknown = next(key for key in error.instance if key not in schema["properties"])
        meant = difflib.get_close_matches(unknown, schema["properties"], 1)
        path.append(unknown)
        reason = "is no key of it" + "".join(f", did you mean {key}?" for key in meant)
    return f"{'.'.join(map(str, path))}: {reason}"


check(config, "../schemas/config.schema.yaml", "config")


def read_samples(sheet):
    """Paths of the VCFs by sample name; raise WorkflowError with the sheet, the line and the reason."""
    try:
        with open(sheet, newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.reader(stream, delimiter="\t"))
    except OSError as error:
        raise WorkflowError(f"samples: {sheet}: {error.strerror}")
    columns = lines[0] if lines else []
    missing = [name for name in ("sample", "vcf") if name not in columns]
    if missing:
        raise WorkflowError(
            f"{sheet}: missing column {', '.join(missing)} (tab-separated)"
        )
    samples = {}
    for number, fields in enumerate(lines[1:], start=2):
        if fields:
            row = dict(zip(columns, fields))
            check_row(row, samples, f"{sheet}, line {number}")
            samples[row["sample"]] = row["vcf"]
    if not samples:
        raise WorkflowError(f"{sheet}: no samples")
    return samples


def check_row(row, samples, where):
    check(row, "../schemas/samples.schema.yaml", where)
    if row["sample"] in samples:
        raise WorkflowError(f"{where}: duplicate sample {row['sample']}")


SAMPLES = read_samples(config["samples"])


wildcard_constraints:
    sample="|".join(map(re.escape, SAMPLES)),


def wanted():
    """The files that the configured steps make, for all samples."""
    patterns = []
    if "annotate" in config["steps"]:
        patterns = [
            "results/annotated/{sample}.vcf.gz",
            "results/annotated/{sample}.vcf.gz.tbi",
        ]
    return [*expand(patterns, sample=SAMPLES), *reports(), "results/summary.html"]


def reports():
    """The reports of all samples, by step."""
    folders = {"annotate": "reports", "ingest": "registered"}
    return expand(
        "results/{folder}/{sample}.json",
        folder=[folders[step] for step in config["steps"]],
        sample=SAMPLES,
    )


def vcf_of(wildcards):
    """The sample's VCF, a file or the output of another rule; the prefix of a module does not apply to it."""
    return local(SAMPLES[wildcards.sample])


def shown(path):
    """The JSON report of a sample, marked for Snakemake's report."""
    return report(
        path,
        caption="../report/annotate.rst",
        category="VRS annotation",
        labels={"sample": "{sample}"},
    )


def reference_table(wildcards):
    """The prepared reference, where the config names one."""
    return (
        [f"results/reference/{config['assembly']}.tsv"] if config["reference"] else []
    )


def request():
    """The options that say what a run does."""
    chosen = config["annotate"]
    return [
        "--assembly",
        config["assembly"],
        "--for-ref" if chosen["for_ref"] else "--no-for-ref",
        "--attributes" if chosen["attributes"] else "--no-attributes",
        *chosen["extra"],
    ]


def servers():
    """The options that say where a run takes place."""
    if not config["local"]:
        return []
    return ["--local", "--reference", f"{config['assembly']}={config['reference']}"]


def conflict_log():
    """The output of ingest that exists only with a validation."""
    if not config["ingest"]["require_validation"]:
        return {}
    log = report(
        "results/conflicts/{sample}.csv",
        caption="../report/conflicts.rst",
        category="Registration",
        labels={"sample": "{sample}"},
    )
    return {"conflicts": log}
