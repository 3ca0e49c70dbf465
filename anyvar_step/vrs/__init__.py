"""GA4GH VRS alleles of VCF records: digests, normalization, INFO fields, two engines (layer 2).

Blocks of record lines in, annotated blocks and facts about them out; no settings, store, Celery or files.
"""

from __future__ import annotations

from anyvar_step.vrs.engine import Annotated, Engine, EngineChoice, RecordError, engine_name, make_engine

__all__ = [
    "Annotated",
    "Engine",
    "EngineChoice",
    "RecordError",
    "engine_name",
    "make_engine",
]
