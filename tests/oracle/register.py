"""Run AnyVar's own worker's task over a VCF; for AnyVar's environment, not ours.

python register.py FASTA VCF [--attributes]
                                          annotate the VCF and register its REF and ALT alleles in
                                          ANYVAR_STORAGE_URI; prints the seconds that the task took
python register.py FASTA --serve SOCKET   AnyVar's web API on a Unix socket, until it is told to stop
python register.py --create               only make AnyVar's tables

The VCF is gone afterwards. Sequences come from a SeqRepo directory made for the FASTA, as in a deployment.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from pathlib import Path


def make_seqrepo(fasta: Path, root: Path) -> str:
    """A SeqRepo of the FASTA's sequences, named ``GRCh38:<name>``; its URI for AnyVar."""
    from biocommons.seqrepo import SeqRepo

    repo = SeqRepo(str(root), writeable=True)
    for part in fasta.read_text().split(">")[1:]:
        title, *lines = part.splitlines()
        repo.store("".join(lines).upper(), [{"namespace": "GRCh38", "alias": title.split()[0]}])
    repo.commit()
    return f"seqrepo+file://{root}"


def main() -> None:
    """Do what the command line says."""
    logging.disable(logging.CRITICAL)
    if sys.argv[1:] == ["--create"]:
        from anyvar.anyvar import create_storage

        create_storage()
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEQREPO_DATAPROXY_URI"] = make_seqrepo(Path(sys.argv[1]), Path(folder) / "seqrepo")
        if sys.argv[2] == "--serve":
            import uvicorn

            uvicorn.run("anyvar.restapi.main:app", uds=sys.argv[3], log_level="error")
            return
        from anyvar.queueing import celery_worker

        celery_worker.get_anyvar_app()
        begin = time.perf_counter()
        celery_worker.annotate_vcf(sys.argv[2], "GRCh38", True, False, "--attributes" in sys.argv)
        print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
