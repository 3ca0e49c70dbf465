"""GA4GH VRS alleles of VCF records: digests, normalization, INFO fields (layer 2).

Lines in, lines out; knows no settings, store, Celery or files.
"""

from __future__ import annotations

from anyvar_step.vrs.annotate import Annotator, RecordError
from anyvar_step.vrs.fields import FIELD_NAMES, PREFIX, header_lines
from anyvar_step.vrs.kept import KeptAlleles

__all__ = ["FIELD_NAMES", "PREFIX", "Annotator", "KeptAlleles", "RecordError", "header_lines"]
