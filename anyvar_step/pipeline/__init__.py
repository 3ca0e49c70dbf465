"""One file through reference, VRS, VCF and store, without Celery or a work dir (layer 3)."""

from __future__ import annotations

from anyvar_step.pipeline.annotate import Outcome, annotate_file
from anyvar_step.pipeline.ingest import ingest_file

__all__ = ["Outcome", "annotate_file", "ingest_file"]
