"""Stores: AnyVar's tables of alleles, locations and sequence references, in Postgres or DuckDB (layer 1).

``open_store`` makes one from ANYVAR_STORAGE_URI; ``registrar`` writes into it beside the annotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from anyvar_step.errors import ConfigurationError
from anyvar_step.models import KeptAllele
from anyvar_step.settings import Settings

__all__ = ["PATIENCE", "Store", "Tables", "from_settings", "open_store"]

#: Seconds for which a store that does not answer is tried again, unless the settings say otherwise.
PATIENCE = 60.0


@dataclass(frozen=True)
class Tables:
    """The tables' names; AnyVar lets each be overridden by a variable (``ANYVAR_ALLELES_TABLE_NAME`` …)."""

    alleles: str = "alleles"
    locations: str = "locations"
    sequence_references: str = "sequence_references"


class Store(Protocol):
    """Where alleles are registered. It connects when it is first used, and again after a failure.

    One thread at a time. Raises Unavailable for what may pass (server down, connection lost, rows locked),
    AccessRefused, ConfigurationError and FileTrouble for what does not; no message holds a password.
    """

    #: How many of this kind are worth having at once in one process.
    writers: int

    def prepare(self) -> None:
        """Create missing tables as AnyVar creates them; refuse a schema of another version."""

    def write(self, alleles: Sequence[KeptAllele]) -> int:
        """Register alleles with their locations and sequence references in one transaction.

        Returns how many alleles were new. What is there already stays as it is, so that a batch that is
        written twice is written once.
        """

    def close(self) -> None:
        """Give back the connection."""


def open_store(uri: str, tables: Tables | None = None, patience: float = PATIENCE) -> Store:
    """The store of an ANYVAR_STORAGE_URI: ``postgresql://…`` or ``duckdb:///path``.

    ``patience``: seconds for which its user will try again what may pass; no lock is waited for longer.
    Raises ConfigurationError for another scheme, and where the package it needs is not installed.
    """
    tables = tables or Tables()
    scheme = urlsplit(uri).scheme
    try:
        if scheme == "postgresql":
            from anyvar_step.store.postgres import PostgresStore

            return PostgresStore(uri, tables, patience)
        if scheme == "duckdb":
            from anyvar_step.store.duckdb import DuckDbStore

            return DuckDbStore(uri, tables)
    except ModuleNotFoundError as error:
        extra = {"postgresql": "postgres"}.get(scheme, scheme)
        raise ConfigurationError(
            f"ANYVAR_STORAGE_URI names a {scheme} store, and the package {error.name} is not installed",
            f"Run: pip install 'anyvar-step[{extra}]'",
        ) from None
    raise ConfigurationError(
        f"ANYVAR_STORAGE_URI has the scheme {scheme!r}", "Use postgresql://… or duckdb:///path"
    )


def from_settings(settings: Settings) -> Store:
    """The store that the settings name, with their tables and patience; raises as ``open_store`` does."""
    tables = Tables(
        alleles=settings.alleles_table,
        locations=settings.locations_table,
        sequence_references=settings.sequence_references_table,
    )
    return open_store(settings.storage_uri, tables, settings.store_patience)
