"""Run ga4gh.vrs's own VcfAnnotator over a FASTA held in memory; for its environment, not ours.

python annotate.py FASTA VCF OUT [--for-ref] [--attributes] [--ndjson FILE]    annotate one file
python annotate.py -                                   one such line of arguments per job on stdin, one line
                                                       "ok" or the error each
FASTA may be seqrepo+file:///path, or a JSON file of sparse contigs (sparse.py):
{name: {"accession": "SQ.…", "length": N, "patches": [[start, "BASES"], …]}, …}
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import logging
import shlex
import sys
from pathlib import Path

from ga4gh.vrs.dataproxy import _DataProxy, create_dataproxy
from ga4gh.vrs.extras.annotator.vcf import VcfAnnotator
from sparse import Sparse

ASSEMBLY = "GRCh38"


class FastaProxy(_DataProxy):
    """Sequences of a FASTA by ``GRCh38:name`` and ``ga4gh:SQ.…``."""

    def __init__(self, fasta: Path) -> None:
        self._sequences: dict[str, str] = {}
        self._metadata: dict[str, dict] = {}
        for part in fasta.read_text().split(">")[1:]:
            title, *lines = part.splitlines()
            name, sequence = title.split()[0], "".join(lines).upper()
            digest = base64.urlsafe_b64encode(hashlib.sha512(sequence.encode()).digest()[:24]).decode()
            aliases = [f"{ASSEMBLY}:{name}", f"ga4gh:SQ.{digest}"]
            for alias in aliases:
                self._sequences[alias] = sequence
                self._metadata[alias] = {"length": len(sequence), "aliases": aliases}

    def get_sequence(self, identifier: str, start: int | None = None, end: int | None = None) -> str:
        """The bases of [start, end); as SeqRepo, nothing for a start before the sequence."""
        if start is not None and start < 0:
            return ""
        return self._sequences[identifier][start:end]

    def get_metadata(self, identifier: str) -> dict:
        """Length and aliases."""
        return self._metadata[identifier]


class SparseProxy(_DataProxy):
    """Sparse sequences by ``GRCh38:name`` and ``ga4gh:SQ.…``."""

    def __init__(self, path: Path) -> None:
        self._sequences: dict[str, Sparse] = {}
        self._metadata: dict[str, dict] = {}
        for name, contig in json.loads(path.read_text()).items():
            sequence = Sparse(contig["length"], contig["patches"])
            aliases = [f"{ASSEMBLY}:{name}", f"ga4gh:{contig['accession']}"]
            for alias in aliases:
                self._sequences[alias] = sequence
                self._metadata[alias] = {"length": sequence.length, "aliases": aliases}

    def get_sequence(self, identifier: str, start: int | None = None, end: int | None = None) -> str:
        """The bases of [start, end); as SeqRepo, nothing for a start before the sequence."""
        sequence = self._sequences[identifier]
        return sequence.fetch(start or 0, sequence.length if end is None else end)

    def get_metadata(self, identifier: str) -> dict:
        """Length and aliases."""
        return self._metadata[identifier]


def proxy_of(reference: str) -> _DataProxy:
    """The sequences at that place."""
    if reference.startswith("seqrepo+"):
        return create_dataproxy(reference)
    return SparseProxy(Path(reference)) if reference.endswith(".json") else FastaProxy(Path(reference))


def annotate(arguments: list[str]) -> None:
    """One job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fasta")
    parser.add_argument("vcf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--for-ref", action="store_true")
    parser.add_argument("--attributes", action="store_true")
    parser.add_argument("--ndjson", type=Path)
    job = parser.parse_args(arguments)
    VcfAnnotator(proxy_of(job.fasta)).annotate(
        job.vcf,
        job.out,
        vrs_attributes=job.attributes,
        assembly=ASSEMBLY,
        compute_for_ref=job.for_ref,
        output_ndjson_path=job.ndjson,
    )


def main() -> None:
    """Annotate one file, or the jobs that come in on stdin."""
    logging.disable(logging.CRITICAL)
    if sys.argv[1:] != ["-"]:
        annotate(sys.argv[1:])
        return
    for line in sys.stdin:
        try:
            annotate(shlex.split(line))
        except Exception as error:
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)
        else:
            print("ok", flush=True)


if __name__ == "__main__":
    main()
