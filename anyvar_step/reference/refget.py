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
from pathlib import Path

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference.fasta import FastaContig, prepared

_log = logging.getLogger(__name__)

SUFFIX = ".refget.json"
ACCESSION = re.compile(r"SQ\.[A-Za-z0-9_-]{32}")


def assign(fasta: Path, contigs: list[FastaContig]) -> None:
    """Give each contig its accession, from the kept file if it is this FASTA's, else computed.

    Kept accessions count only if size and modification time (ns) of the FASTA and all names and lengths
    agree. A copied FASTA has another time and is read again (some 10 s for a human genome): of two files of
    one size a changed base shows in nothing else, and a wrong accession is worse than a slow start.

    Raises ConfigurationError if the .fai is not the FASTA's.
    """
    status = fasta.stat()
    same = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def kept(file: Path) -> bool:
        """Whether the file is this FASTA's; the contigs then have its accessions."""
        try:
            content = json.loads(file.read_bytes())
            rows = [content["sequences"].pop(contig.name) for contig in contigs]
            fits = (
                {key: content[key] for key in same} == same
                and not content["sequences"]
                and [row["length"] for row in rows] == [contig.length for contig in contigs]
                and all(ACCESSION.fullmatch(row["accession"]) for row in rows)
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False  # written by hand or by another program: computed anew
        if fits:
            for contig, row in zip(contigs, rows, strict=True):
                contig.accession = row["accession"]
        return fits

    def write(drafts: list[Path]) -> None:
        _compute(fasta, contigs)
        sequences = {c.name: {"length": c.length, "accession": c.accession} for c in contigs}
        drafts[0].write_text(json.dumps({**same, "sequences": sequences}, indent=1) + "\n", encoding="utf-8")

    try:
        prepared(fasta, (SUFFIX,), kept, write)
    except OSError as error:
        _log.warning(
            "the refget accessions of %s cannot be kept and are computed each time: %s", fasta, error
        )
        _compute(fasta, contigs)


def _compute(fasta: Path, contigs: list[FastaContig]) -> None:
    """Give each contig its accession by reading its bases, unless all have theirs."""
    if all(contig.accession for contig in contigs):
        return
    _log.info("computing the refget accessions of %s, once (some 10 s for a human genome)", fasta)
    for contig in contigs:
        digest = hashlib.sha512()
        try:
            for piece in contig.checked_pieces():
                digest.update(piece)
        except ValueError as error:
            raise ConfigurationError(
                f"the index of {fasta} is not this file's: {error}", "Delete the .fai, and it is built anew"
            ) from None
        contig.accession = "SQ." + base64.urlsafe_b64encode(digest.digest()[:24]).decode("ascii")
