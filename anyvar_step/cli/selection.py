"""Options that choose among an input's records and columns, named as those of ``bcftools view``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anyvar_step.cli import making
from anyvar_step.cli.options import options

if TYPE_CHECKING:
    from anyvar_step.step.intake import Intake

#: The options' names as arguments of a command.
NAMES = ("regions", "regions_file", "targets", "targets_file", "pass_only", "drop_genotypes")

selection = options(
    click.option(
        "-r",
        "--regions",
        default="",
        metavar="CHROM[:FROM-TO],…",
        help="Only the records that overlap these; only they are read where IN has an index.",
    ),
    click.option("-R", "--regions-file", default="", metavar="FILE", help="The same from a BED or a table."),
    click.option(
        "-t",
        "--targets",
        default="",
        metavar="[^]CHROM[:FROM-TO],…",
        help="Only the records whose POS lies in these; with ^, all others.",
    ),
    click.option("-T", "--targets-file", default="", metavar="[^]FILE", help="The same from a file."),
    click.option(
        "--pass-only/--include-filtered",
        default=False,
        help="Only the records that no filter has failed (FILTER is PASS or .). [default: include-filtered]",
    ),
    click.option("-G", "--drop-genotypes", is_flag=True, help="Leave out FORMAT and the samples."),
)


def make_intake(source: Path, given: dict[str, Any]) -> Intake:
    """The input and what is wanted of it; takes the selection's options out of ``given``."""
    from anyvar_step.step.intake import Intake
    from anyvar_step.vcf.selection import Selection

    chosen = {name: given.pop(name) for name in NAMES}
    for place in ("regions", "targets"):
        if chosen[place] and chosen[f"{place}_file"]:
            raise click.UsageError(f"--{place} and --{place}-file exclude each other")
    for name in ("regions", "regions_file"):
        if chosen[name].startswith("^"):
            raise click.UsageError(f"--{name.replace('_', '-')} leaves nothing out: ^ goes with --targets")
    return Intake(making.path_or_stdin(source), Selection(**chosen))
