"""What an annotated VCF says of itself: counts from its lines, where the worker that wrote them told none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from anyvar_step.models import Counts
from anyvar_step.vrs import fields
from anyvar_step.vrs.allele import is_nucleotides, kind_of_change, kind_of_other
from anyvar_step.vrs.mismatch import QUOTED, cause_of
from anyvar_step.vrs.old_normalize import trim
from anyvar_step.vrs.record import add, text_of

#: The VRS_Error of a REF that differs, in AnyVar's words and in ours, which are cut at ``QUOTED`` bases.
_MISMATCH = re.compile(rb"Reference mismatch .*correct ref is '([A-Za-z]*)'")


def tally(lines: Sequence[bytes], counts: Counts) -> None:
    """Count a block's records as the annotator would have, contigs left out.

    Of a REF of more than ``QUOTED`` bases the error does not tell whether it differs there or ends beyond the
    contig. Raises ValueError where a line is no record.
    """
    counts.records += len(lines)
    for line in lines:
        columns = line.split(b"\t", 8)
        if len(columns) < 8:
            raise ValueError(
                f"a record has {len(columns)} tab-separated columns, and at least 8 belong to it"
            )
        ref, alts = columns[3].upper(), columns[4].upper().split(b",")
        for alt in alts:
            add(counts.alleles, _kind(ref, alt))
        info = dict(item.partition(b"=")[::2] for item in columns[7].split(b";"))
        values = info.get(fields.IDS, b"").split(b",")
        if fields.ERROR in info:
            _count_error(columns, unquote_to_bytes(info[fields.ERROR]), counts)
        elif ids := sum(value not in (b"", b".") for value in values):
            counts.ids += ids
        elif _has_sequence(ref, alts, values):
            add(counts.unknown_contigs, text_of(columns[0]))


def _kind(ref: bytes, alt: bytes) -> str:
    if is_nucleotides(ref) and is_nucleotides(alt):
        return kind_of_change(*trim(ref, alt)[1:])
    return kind_of_other(alt)


def _has_sequence(ref: bytes, alts: Sequence[bytes], values: Sequence[bytes]) -> bool:
    """Whether one of the alleles that have a value would have an identifier on a known contig."""
    with_ref = len(values) > len(alts) or (alts == [b"."] and values == [b"."])
    return is_nucleotides(ref) and (with_ref or any(map(is_nucleotides, alts)))


def _count_error(columns: Sequence[bytes], message: bytes, counts: Counts) -> None:
    told = _MISMATCH.match(message)
    cause = cause_of(columns[3].upper()[:QUOTED], told[1].upper()[:QUOTED]) if told else "other"
    add(counts.errors, cause)
    counts.exemplify(cause, text_of(b"%b:%b %b" % (columns[0], columns[1], message)))
