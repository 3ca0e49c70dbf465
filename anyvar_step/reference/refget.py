"""refget accessions of a FASTA's sequences, computed once and kept in ``<fasta>.refget.json``.

An accession is ``SQ.`` and sha512t24u of the upper-case sequence (GA4GH refget 2;
docs/contract.md#vrs-identifiers).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference.fasta import FastaContig, find_prepared, preparing_alone, publish_prepared

_log = logging.getLogger(__name__)

SUFFIX = ".refget.json"
_ACCESSION = re.compile(r"SQ\.[A-Za-z0-9_-]{32}")


def accession(pieces: Iterable[bytes]) -> str:
    """The accession of a sequence that comes in upper-case pieces."""
    digest = hashlib.sha512()
    for piece in pieces:
        digest.update(piece)
    return "SQ." + base64.urlsafe_b64encode(digest.digest()[:24]).decode("ascii")


def assign(fasta: Path, contigs: list[FastaContig]) -> None:
    """Give each contig its accession, from the kept file where that is this FASTA's, else computed.

    Kept accessions count only where size and modification time (ns) of the FASTA and all names and lengths
    agree. A copied FASTA has another time and is read again (some 10 s for a human genome): of two files of
    one size a changed base shows in nothing else, and a wrong accession is worse than a slow start.

    Raises ConfigurationError where the .fai is not the FASTA's.
    """
    if _from_file(fasta, contigs):
        return
    with preparing_alone(fasta):
        if _from_file(fasta, contigs):
            return
        status = fasta.stat()
        _log.info("computing the refget accessions of %s, once (some 10 s for a human genome)", fasta)
        for contig in contigs:
            contig.accession = _computed(fasta, contig)
        content = {
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sequences": {c.name: {"length": c.length, "accession": c.accession} for c in contigs},
        }
        _keep(fasta, json.dumps(content, indent=1) + "\n")


def _computed(fasta: Path, contig: FastaContig) -> str:
    try:
        return accession(contig.checked_pieces())
    except ValueError as error:
        raise ConfigurationError(
            f"the index of {fasta} is not this file's: {error}", "Delete the .fai, and it is built anew"
        ) from None


def _keep(fasta: Path, text: str) -> None:
    def write(drafts: list[Path]) -> None:
        drafts[0].write_text(text, encoding="utf-8")

    try:
        publish_prepared(fasta, (SUFFIX,), write)
    except OSError as error:
        _log.warning(
            "the refget accessions of %s cannot be kept and are computed each time: %s", fasta, error
        )


def _from_file(fasta: Path, contigs: list[FastaContig]) -> bool:
    """Whether a kept file was this FASTA's; its accessions are then assigned."""
    status = fasta.stat()
    lengths = {contig.name: contig.length for contig in contigs}
    sequences: dict[str, Any] = {}

    def fresh(file: Path) -> bool:
        nonlocal sequences
        try:
            content = json.loads(file.read_bytes())
            sequences = content["sequences"]
            return (
                content["size"] == status.st_size
                and content["mtime_ns"] == status.st_mtime_ns
                and {name: row["length"] for name, row in sequences.items()} == lengths
                and all(_ACCESSION.fullmatch(row["accession"]) for row in sequences.values())
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False  # half written by hand, or of another program: computed anew

    if find_prepared(fasta, (SUFFIX,), fresh) is None:
        return False
    for contig in contigs:
        contig.accession = sequences[contig.name]["accession"]
    return True
