"""Identifiers alone, from a BGZF VCF on one core: our engines beside gtars-vrs, a Rust library.

ALT alleles, no attributes: ours writes the annotated text, gtars-vrs (ANYVAR_STEP_GTARS, which `make bench`
builds where cargo is) one identifier a line, both to /dev/null. CPU seconds, less those of a run over a VCF
without records: starting, and for gtars-vrs loading the FASTA into memory. How many identifiers are equal is
told beside ours, which are those of ga4gh.vrs (tests/contract/test_vrs_oracle.py).

    python benchmarks/identifiers.py [--records N] [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Table, alternate, main, python
from data import bgzipped, first_records, make_data
from processes import Cost, measure

from anyvar_step.vrs import engine_name

OURS = (
    "from pathlib import Path; from anyvar_step.reference import open_reference; "
    "from anyvar_step.vcf.reader import VcfReader; from anyvar_step.vrs import make_engine; a = sys.argv; "
    "reference, options = open_reference('GRCh38', Path(a[1])), {'for_ref': False, 'attributes': False}; "
    "engine = make_engine(reference, choice=a[3], **options); "
    "reader = VcfReader(open(a[2], 'rb'), 'in'); "
    "[sys.stdout.buffer.write(engine.annotate(text).text) for text in reader.text_blocks()]"
)


def identifiers(output: bytes, *, vcf: bool) -> list[bytes]:
    """The identifiers of an output, in the order of the alleles."""
    if not vcf:
        return [line for line in output.splitlines() if line.startswith(b"ga4gh:VA.")]
    infos = (line.split(b"\t", 8)[7] for line in output.splitlines())
    values = (info.partition(b"VRS_Allele_IDs=")[2].split(b";")[0] for info in infos)
    return [value for row in values for value in row.split(b",") if value not in (b"", b".")]


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Identifiers per CPU second of each."""
    fasta, plain = make_data(where, options.records)
    full = bgzipped(plain)
    none = bgzipped(first_records(plain, 0, where / "none.vcf"))
    engines = ["native", "python"] if engine_name() == "native" else ["python"]
    commands: dict[str, Callable[[Path], list[str]]] = {
        engine: lambda vcf, engine=engine: python(OURS, fasta, vcf, engine)  # type: ignore[misc]
        for engine in engines
    }
    gtars = os.environ.get("ANYVAR_STEP_GTARS")
    if gtars:
        commands["gtars"] = lambda vcf: [gtars, str(fasta), str(vcf)]
    answers = {
        name: identifiers(subprocess.check_output(command(full)), vcf=name != "gtars")
        for name, command in commands.items()
    }
    what: dict[str, Callable[[], Cost]] = {}
    for name, command in commands.items():
        what[name] = partial(measure, command(full), where, None, 1)
        what[f"{name} none"] = partial(measure, command(none), where, None, 1)
    costs = alternate(options.rounds, **what)
    names = {"native": "ours, native engine", "python": "ours, Python engine", "gtars": "gtars-vrs 0.7.2"}
    speeds = {
        name: len(answers[name]) / max(costs[name].cpu - costs[f"{name} none"].cpu, 0.001)
        for name in commands
    }
    rows: list[list[object]] = []
    for name, speed in speeds.items():
        row: list[object] = [names[name], round(speed)]
        if gtars:
            same = sum(map(bytes.__eq__, answers[name], answers[engines[0]]))
            row += [speed / speeds["gtars"], f"{100 * same / len(answers[engines[0]]):.1f} %"]
        rows.append(row)
    head = ["identifiers alone, one core", "identifiers/s", "× gtars-vrs", "equal to ga4gh.vrs's"]
    return [Table("identifiers", head[: len(rows[0])], rows)]


if __name__ == "__main__":
    main(__doc__, tables, needs=("bgzip",), records=(1_000_000, 5_000), rounds=(3, 1))
