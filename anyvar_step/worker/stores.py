"""A worker process's store: made from the settings after the fork, drained before the process ends."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.signals import worker_process_shutdown

from anyvar_step.settings import Settings
from anyvar_step.store import Store, Tables, open_store
from anyvar_step.store.registrar import Registrar, Registration

_logger = logging.getLogger(__name__)


def configured_store(settings: Settings) -> Store | None:
    """The store that ANYVAR_STORAGE_URI names; None where it names none."""
    if not settings.storage_uri:
        return None
    tables = Tables(
        alleles=settings.alleles_table,
        locations=settings.locations_table,
        sequence_references=settings.sequence_references_table,
    )
    return open_store(settings.storage_uri, tables, settings.store_patience)


def prepare_store(settings: Settings) -> None:
    """Make the tables before the first run, and find out now what would fail each run."""
    store = configured_store(settings)
    if store is None:
        return
    begin = time.monotonic()
    store.prepare()
    store.close()
    _logger.info("the store is ready in %.1f s", time.monotonic() - begin)


def look_at_store(settings: Settings) -> None:
    """Raise what would keep runs from registering alleles, as far as that can be seen beside runs at work.

    A DuckDB file belongs to the one process that has it open: asking for it here would disturb a run.
    """
    store = configured_store(settings)
    if store is not None and not settings.storage_uri.startswith("duckdb"):
        store.prepare()
        store.close()


class Registrations:
    """The registrations of this process's runs; its writers start with the first one, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registrar: Registrar | None = None
        worker_process_shutdown.connect(self.drain)

    def begin(self, run_id: str) -> Registration | None:
        """The registration of that run; None where there is no store."""
        if not self._settings.storage_uri:
            return None
        if self._registrar is None:
            self._registrar = Registrar(self._open, patience=self._settings.store_patience)
        return self._registrar.begin(f"run {run_id}")

    def _open(self) -> Store:
        store = configured_store(self._settings)
        assert store is not None
        return store

    def drain(self, **_: Any) -> None:
        """Write what runs with ``allow_async_write`` have left; Celery calls this when the process ends."""
        if self._registrar is not None:
            self._registrar.close()
            self._registrar = None
