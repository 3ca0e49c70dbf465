"""``anyvar-step reference``: prepare a FASTA (index, refget accessions) and list its sequences."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import options
from anyvar_step.cli.logs import say, say_json


@click.command(
    epilog="""\b
Examples:
  anyvar-step reference GRCh38.fa
  anyvar-step reference GRCh38.fa --json > sequences.json"""
)
@click.argument("fasta", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--assembly", default="GRCh38", show_default=True, metavar="NAME", help="The assembly in the FASTA."
)
@click.option(
    "--aliases",
    type=click.Path(readable=False, path_type=Path),
    envvar="ANYVAR_STEP_REFERENCE_ALIASES",
    metavar="FILE",
    help="A table of further contig names, all names of one sequence in a row. "
    "[default: ANYVAR_STEP_REFERENCE_ALIASES]",
)
@options.as_json
def reference_command(fasta: Path, assembly: str, aliases: Path | None, as_json: bool) -> None:
    """Prepare FASTA and list its sequences.

    A line has name, length and refget accession. Writes FASTA.fai (and FASTA.gzi where it is bgzipped) and
    FASTA.refget.json, or the same into the user's cache directory where the FASTA's folder is read-only. Run
    it once before many workers start.
    """
    from anyvar_step.reference import open_reference

    reference = open_reference(assembly, fasta, aliases=aliases)
    rows = [(contig.name, contig.length, contig.accession) for contig in reference.contigs()]
    reference.close()
    if as_json:
        sequences = [dict(zip(("name", "length", "accession"), row, strict=True)) for row in rows]
        say_json({"assembly": assembly, "fasta": str(fasta), "sequences": sequences})
        return
    for row in rows:
        say("\t".join(map(str, row)))
