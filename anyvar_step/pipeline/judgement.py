"""Does this file fit this reference? What the counts of a whole or half-read file say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice, repeat

from anyvar_step.errors import InvalidInput
from anyvar_step.models import Counts, RunReport
from anyvar_step.reference import Reference

#: Causes of VRS_Error that say that the reference is not the file's; a REF of N alone says nothing.
MISFITS = ("ref_mismatch", "position")
#: Records on known contigs after which REFs are judged, and the share of mismatches that damns the file.
SAMPLE = 1000
MISMATCHES = 0.1
#: Contig names shown in a message.
SHOWN = 5


def count_contigs(counts: Counts, lines: Sequence[bytes]) -> None:
    """Count a block's records by contig; nearly all blocks are of one contig, which is quick to see."""
    first = lines[0].partition(b"\t")[0]
    if sum(map(bytes.startswith, lines, repeat(first + b"\t"))) == len(lines):
        found = {first: len(lines)}
    else:
        found = Counter(line.partition(b"\t")[0] for line in lines)
    for chrom, number in found.items():
        name = chrom.decode("utf-8", "backslashreplace")
        counts.contigs[name] = counts.contigs.get(name, 0) + number


def on_known_contigs(counts: Counts) -> int:
    """Records whose contig the reference has."""
    return counts.records - sum(counts.unknown_contigs.values())


def compared(counts: Counts) -> int:
    """Records that could say whether the reference is the file's."""
    return on_known_contigs(counts) - counts.errors.get("ref_n", 0)


def misfits(counts: Counts) -> int:
    """Records that say that the reference is not the file's."""
    return sum(counts.errors.get(cause, 0) for cause in MISFITS)


def check_refs(counts: Counts, assembly: str, name: str) -> None:
    """A file too many of whose first REFs differ from the reference was called on another assembly."""
    number = compared(counts)
    share = misfits(counts) / number
    if share > MISMATCHES:
        raise InvalidInput(
            f"{name} does not fit the reference {assembly}: REF differs from it in {share:.0%} of the first "
            f"{number:,} records",
            "Probably the file is of another assembly (hg38 is GRCh38, hg19 is GRCh37): name that with "
            "--assembly, or use --force to go on with the records that fit",
        )


def check_contigs(counts: Counts, assembly: str, name: str, reference: Reference | None = None) -> None:
    """A file none of whose contigs is known was meant for another reference (CONTRACTS.md §4).

    The message names those of the ``reference``, where it is at hand.
    """
    if counts.records and not on_known_contigs(counts):
        has = f"; the reference has {_listed([c.name for c in reference.contigs()])}" if reference else ""
        raise InvalidInput(
            f"{name} has no contig that the reference {assembly} knows: the file has "
            f"{_listed(counts.unknown_contigs)}{has}",
            "Use the reference that the file was called on, or give its other names to the workers with "
            "ANYVAR_STEP_REFERENCE_ALIASES; --force goes on without VRS ids",
        )


def notes_on(counts: Counts, assembly: str, name: str, *, annotated: bool = True) -> Iterator[str]:
    """What the user should know of a run that went well, ``annotated`` or else ingested."""
    if unknown := counts.unknown_contigs:
        left = "left without VRS ids" if annotated else "not registered"
        yield (
            f"{name} has {sum(unknown.values()):,} of {counts.records:,} records on contigs that the "
            f"reference {assembly} does not have, {left}: {_listed(unknown)}"
        )
    if counts.kept:
        yield f"{name} has {counts.kept:,} of {counts.records:,} records whose VRS fields were kept"
    carry = "; they carry VRS_Error" if annotated else "; they are not registered"
    if wrong := misfits(counts):
        yield (
            f"{name} has {wrong:,} of {counts.records:,} records with a REF that differs from the "
            f"reference {assembly}{carry}"
        )
    if blank := counts.errors.get("ref_n", 0):
        yield (
            f"{name} has {blank:,} of {counts.records:,} records with N for REF where the reference "
            f"{assembly} has bases{carry}"
        )
    if others := sum(counts.errors.values()) - wrong - blank:
        yield f"{name} has {others:,} of {counts.records:,} records " + (
            "with another VRS_Error" if annotated else "from which no allele can be made, not registered"
        )


def with_notes(whole: RunReport, pieces: Sequence[RunReport]) -> RunReport:
    """The report on a VCF that was annotated in ``pieces``, with notes on the whole, under its name."""
    notes = []
    for piece in pieces:
        counted = set(notes_on(piece.counts, piece.options.assembly, piece.input_name))
        others = (note for note in piece.notes if note not in counted)
        notes += [note.replace(piece.input_name, whole.input_name) for note in others]
    notes += notes_on(whole.counts, whole.options.assembly, whole.input_name)
    return whole.model_copy(update={"notes": tuple(dict.fromkeys(notes))})


def _listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(islice(names, SHOWN)) + (f" and {more} more" if more > 0 else "")
