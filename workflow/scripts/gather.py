"""Puts the annotated pieces of a VCF together: one header, the records in order, an index, one report.

The pieces' BGZF blocks are copied, not packed again. Fails where the records are not as many as the input's.
"""

import hashlib
import json
import sys
from pathlib import Path

import pysam
import pysam.bcftools

#: Records with VRS_Error that a report shows, for each cause.
EXAMPLES = 5
#: A worker's phases, those of which a report's throughput is.
WORK = ("read", "annotate", "write", "register")


def records(vcf):
    """The number of records, as the index has it."""
    return int(pysam.bcftools.index("--nrecords", vcf))


def concatenate(pieces, target):
    """Write the VCF and its index."""
    pysam.bcftools.concat("--naive", "--no-version", "-o", target, *pieces, catch_stdout=False)
    pysam.tabix_index(target, preset="vcf", force=True)


def total(values):
    """Sums of numbers, by key where the values are dictionaries; what one does not know, None, none knows.

    Of lists, which are examples, the first few.
    """
    if None in values:
        return None
    if isinstance(values[0], list):
        return [example for value in values for example in value][:EXAMPLES]
    if not isinstance(values[0], dict):
        return sum(values)
    keys = dict.fromkeys(key for value in values for key in value)
    return {key: total([value[key] for value in values if key in value]) for key in keys}


def total_of(name, reports):
    """The sum of what the reports have under that name; None where none of them has anything."""
    values = [report[name] for report in reports if report[name] is not None]
    return total(values) if values else None


def size_and_digest(path):
    """Bytes and hex SHA-256 of the file."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def merged(reports, source, target):
    """One report of the pieces': counts and seconds are sums, all else that differs is listed."""
    input_size, input_sha256 = size_and_digest(source)
    output_size, output_sha256 = size_and_digest(target)
    counts, seconds = total_of("counts", reports), total_of("seconds", reports)
    work = sum(seconds.get(phase, 0) for phase in WORK)
    return {
        **reports[0],
        "run_id": " ".join(report["run_id"] for report in reports),
        "input_name": Path(source).name,
        "input_size": input_size,
        "input_sha256": input_sha256,
        "output_size": output_size,
        "output_sha256": output_sha256,
        "counts": counts,
        "registered": total_of("registered", reports),
        "seconds": seconds,
        "records_per_second": round(counts["records"] / work, 1) if work else None,
        "finished": max(report["finished"] for report in reports),
        "worker": " ".join(dict.fromkeys(report["worker"] for report in reports)),
        "notes": [note for report in reports for note in report["notes"]],
    }


def main(source, pieces, reports, target, report):
    """Write the whole VCF, its index and its report."""
    concatenate(pieces, target)
    given, gathered = records(source), records(target)
    if gathered != given:
        sys.exit(f"the pieces of {source} have {gathered} records, its index counts {given}: index it again")
    read = [json.loads(Path(path).read_text(encoding="utf-8")) for path in reports]
    Path(report).write_text(json.dumps(merged(read, source, target), indent=2) + "\n", encoding="utf-8")


sys.stderr = Path(snakemake.log[0]).open("w")
main(
    snakemake.input.vcf,
    snakemake.input.pieces,
    snakemake.input.reports,
    snakemake.output.vcf,
    snakemake.output.report,
)
