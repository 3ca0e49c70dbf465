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
    """Give each contig its accession, from the kept file if it is this FASTA's, else computed.

    Kept accessions count only if size and modification time (ns) of the FASTA and all names and lengths
    agree. A copied FASTA has another time and is read again (some 10 s for a human genome): of two files of
    one size a changed base shows in nothing else, and a wrong accession is worse than a slow start.

    Raises ConfigurationError if the .fai is not the FASTA's.
    """
    if _assign_kept(fasta, contigs):
        return
    with preparing_alone(fasta):
        if _assign_kept(fasta, contigs):
            return
        status = fasta.stat()
        _log.info("computing the refget accessions of %s, once (some 10 s for a human genome)", fasta)
        for contig in contigs:
            try:
                contig.accession = accession(contig.checked_pieces())
            except ValueError as error:
                raise ConfigurationError(
                    f"the index of {fasta} is not this file's: {error}",
                    "Delete the .fai, and it is built anew",
                ) from None
        sequences = {c.name: {"length": c.length, "accession": c.accession} for c in contigs}
        content = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sequences": sequences}

        def write(drafts: list[Path]) -> None:
            drafts[0].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

        try:
            publish_prepared(fasta, (SUFFIX,), write)
        except OSError as error:
            _log.warning(
                "the refget accessions of %s cannot be kept and are computed each time: %s", fasta, error
            )


def _assign_kept(fasta: Path, contigs: list[FastaContig]) -> bool:
    """Whether a kept file is this FASTA's; its accessions are then assigned."""
    status = fasta.stat()
    lengths = {contig.name: contig.length for contig in contigs}
    accessions: dict[str, str] = {}

    def fresh(file: Path) -> bool:
        try:
            content = json.loads(file.read_bytes())
            sequences = content["sequences"]
            accessions.clear()
            accessions.update((name, row["accession"]) for name, row in sequences.items())
            return (
                content["size"] == status.st_size
                and content["mtime_ns"] == status.st_mtime_ns
                and {name: row["length"] for name, row in sequences.items()} == lengths
                and all(map(_ACCESSION.fullmatch, accessions.values()))
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False  # written by hand or by another program: computed anew

    if find_prepared(fasta, (SUFFIX,), fresh) is None:
        return False
    for contig in contigs:
        contig.accession = accessions[contig.name]
    return True
