"""Registrar: writes alleles into a store, in threads of its own, while the annotation goes on.

Alleles are collected into batches. The queue of batches is bounded: if the store is slower, the annotation
waits, so that memory does not grow with the file.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from anyvar_step.errors import StepError, Unavailable
from anyvar_step.models import KeptAllele
from anyvar_step.store import Store

_logger = logging.getLogger(__name__)

#: Alleles in a batch, which is a transaction; about 10,000 records with REF and ALT.
BATCH = 20_000
#: Batches that may wait for a writer.
_QUEUE_SIZE = 2
#: Digests remembered, at least, to skip alleles that repeat within a run.
RECENT = 100_000
#: Seconds between two calls of ``tick`` while a run waits for the store.
_TICK = 0.5
#: Seconds before the second try after a failure that may pass, doubled for each further one up to a limit.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

#: A batch and the run that it belongs to.
_Job = tuple["Registration", list[KeptAllele]]


class Alleles(Protocol):
    """The alleles of a block; ``digests`` tell repeats without making the alleles."""

    @property
    def digests(self) -> Sequence[bytes]:
        """The 24 bytes behind each allele's identifier."""

    def __getitem__(self, index: int) -> KeptAllele:
        """The allele with that index."""


class Registration:
    """The alleles of one run on their way to the store; made by ``Registrar.begin``.

    ``alleles`` counts those handed to the store, ``added`` those that were new to it. ``tick`` is called
    every _TICK seconds while a method waits for the store; it may raise to give up. Digests are remembered
    for one run only, so that the next run restores rows that were deleted.
    """

    def __init__(self, jobs: queue.Queue[_Job | None], patience: float, name: str) -> None:
        self.alleles = 0
        self.added = 0
        self.tick: Callable[[], None] = lambda: None
        self._jobs = jobs
        self._patience = patience
        self._name = name
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._batch: list[KeptAllele] = []
        self._state = threading.Condition()
        self._open_batches = 0
        self._dropped = threading.Event()
        self._failure: StepError | None = None
        self._detached = False
        self._lost = 0

    def add(self, alleles: Alleles) -> None:
        """Add the alleles of a block; waits while the store is behind. Raises an earlier batch's failure."""
        recent, older, batch = self._recent, self._older, self._batch
        for index, digest in enumerate(alleles.digests):
            if digest not in recent and digest not in older:
                recent.add(digest)
                batch.append(alleles[index])
        if len(batch) >= BATCH:
            self._send()
        if len(recent) >= RECENT:
            self._older, self._recent = recent, set()

    def finish(self) -> None:
        """Return once everything is committed."""
        self._send()
        while True:
            with self._state:
                if self._failure or self._state.wait_for(lambda: not self._open_batches, timeout=_TICK):
                    break
            self.tick()
        self._raise_failure()

    def detach(self) -> None:
        """Leave what is not yet written to the registrar; its failures are only logged from now on."""
        self._send()
        with self._state:
            self._raise_failure()
            self._detached = True

    def drop(self) -> None:
        """Give up: batches that wait are not written."""
        self._batch = []
        self._dropped.set()

    def _send(self) -> None:
        self._raise_failure()
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        self.alleles += len(batch)
        with self._state:
            self._open_batches += 1
        while True:
            try:
                self._jobs.put((self, batch), timeout=_TICK)
                return
            except queue.Full:
                self.tick()

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    def write(self, store: Store, batch: list[KeptAllele]) -> None:
        """Write one batch, in a writer's thread; never raises."""
        added, lost, failure = 0, len(batch), None
        try:
            if not self._dropped.is_set():
                added, lost = self._write_with_retries(store, batch), 0
        except StepError as error:
            failure = error
        except Exception as error:
            failure = StepError(f"registration failed: {type(error).__name__}: {error}")
        with self._state:
            self.added += added
            self._lost += lost
            self._failure = self._failure or failure
            if failure:
                self._dropped.set()
            self._open_batches -= 1
            self._state.notify_all()
            if self._detached and self._lost and not self._open_batches:
                _logger.error("%s: %d alleles were not registered: %s", self._name, self._lost, self._failure)

    def _write_with_retries(self, store: Store, batch: list[KeptAllele]) -> int:
        """Write the batch, again after failures that may pass: a batch may be written twice."""
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                return store.write(batch)
            except Unavailable as failure:
                if time.monotonic() + pause > deadline or self._dropped.wait(pause):
                    raise
                _logger.warning("%s: %s; trying again", self._name, failure)
                pause = min(pause * 2, _LONGEST_PAUSE)


class Registrar:
    """The threads of one process that write into the store; to be made after the fork.

    ``open_one`` makes a store for each thread; ``patience`` is for how many seconds a batch is tried again.
    """

    def __init__(self, open_one: Callable[[], Store], *, patience: float) -> None:
        self._open_one = open_one
        self._patience = patience
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUE_SIZE)
        self._threads: list[threading.Thread] = []

    def begin(self, name: str) -> Registration:
        """The registration of one run, which the log calls ``name``.

        Raises ConfigurationError if there can be no such store.
        """
        if not self._threads:
            first = self._open_one()
            for store in (first, *(self._open_one() for _ in range(first.writers - 1))):
                thread = threading.Thread(target=self._serve, args=(store,), name="registrar", daemon=True)
                thread.start()
                self._threads.append(thread)
        return Registration(self._jobs, self._patience, name)

    def _serve(self, store: Store) -> None:
        while (job := self._jobs.get()) is not None:
            registration, batch = job
            registration.write(store, batch)
            del registration, batch, job
        store.close()

    def close(self) -> None:
        """Write what still waits, then end."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
