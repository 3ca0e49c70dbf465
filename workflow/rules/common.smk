# Config and sample sheet: read, checked against the schemas, and what the rules ask of them.

import csv
import difflib
import os

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate


def check(data, schema, where):
    """Fill in defaults; WorkflowError says in one line where which key is wrong, and why."""
    try:
        validate(data, schema=schema)
    except WorkflowError as error:
        raise WorkflowError(f"{where}: {explained(error.__context__)}") from None


def explained(error):
    """A jsonschema.ValidationError as key and reason."""
    path, schema, reason = list(error.absolute_path), error.schema, error.message
    if "allOf" in error.absolute_schema_path:  # keys that do not go together
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

# What one run annotates: a sample's VCF, or a piece of it (scatter.smk).
IN_PIECES = config["annotate"]["pieces"] > 1
UNIT = "{sample}/{piece}" if IN_PIECES else "{sample}"
MADE = "results/pieces" if IN_PIECES else "results"


def read_samples(sheet):
    """Paths of the VCFs by sample name; WorkflowError names the sheet, the line and what is wrong."""
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
    if IN_PIECES and not row["vcf"].endswith((".gz", ".bgz")):
        raise WorkflowError(
            f"{where}: annotate.pieces needs a bgzipped VCF with its index, not {row['vcf']}"
        )


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
    """The sample's VCF, from a file or another rule; a module's prefix is for what this workflow makes alone."""
    return local(SAMPLES[wildcards.sample])


def unit_of(wildcards):
    """The VCF that one run annotates."""
    if IN_PIECES:
        return f"results/pieces/cut/{wildcards.sample}/{wildcards.piece}.vcf.gz"
    return vcf_of(wildcards)


def unit_made(path):
    """An output of one run; a piece's is gone when the whole is made."""
    return temp(path) if IN_PIECES else path


def unit_report(path):
    """The JSON report of one run; a piece's goes into that of the whole."""
    return temp(path) if IN_PIECES else shown(path)


def shown(path):
    """The JSON report of a sample, as Snakemake's own report shows it."""
    return report(
        path,
        caption="../report/annotate.rst",
        category="VRS annotation",
        labels={"sample": "{sample}"},
    )


def index_of(wildcards):
    """The index beside the sample's VCF."""
    vcf = SAMPLES[wildcards.sample]
    return local(f"{vcf}.csi" if os.path.exists(f"{vcf}.csi") else f"{vcf}.tbi")


def reference_table(wildcards):
    """The prepared reference, where the config names one."""
    return (
        [f"results/reference/{config['assembly']}.tsv"] if config["reference"] else []
    )


def request(wildcards):
    """The options that say what is asked of a run.

    A piece after the first goes on whatever its contigs and REFs are: they say little of the whole.
    """
    chosen = config["annotate"]
    later = IN_PIECES and not wildcards.piece.startswith("1-of-")
    return [
        "--assembly",
        config["assembly"],
        "--for-ref" if chosen["for_ref"] else "--no-for-ref",
        "--attributes" if chosen["attributes"] else "--no-attributes",
        *chosen["extra"],
        *(["--force"] if later else []),
    ]


def servers():
    """The options that say where the run takes place."""
    if not config["local"]:
        return []
    return ["--local", "--reference", f"{config['assembly']}={config['reference']}"]


def conflict_log():
    """The output of ingest that only a validation has."""
    if not config["ingest"]["require_validation"]:
        return {}
    log = report(
        "results/conflicts/{sample}.csv",
        caption="../report/conflicts.rst",
        category="Registration",
        labels={"sample": "{sample}"},
    )
    return {"conflicts": log}
