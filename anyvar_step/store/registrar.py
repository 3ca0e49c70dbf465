"""Registrar: writes alleles into a store by threads of its own while the annotation goes on.

Alleles are collected into batches. The queue of batches is bounded: where the store is slower the annotation
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
from anyvar_step.store import PATIENCE, Store

_logger = logging.getLogger(__name__)

#: Alleles in a batch, which is a transaction; about 10,000 records with REF and ALT.
BATCH = 20_000
#: Batches that may wait for a writer.
WAITING = 2
#: Digests remembered, at least, to pass over alleles that repeat within a run.
RECENT = 100_000
#: Seconds between two calls of a run that waits for the store.
TICK = 0.5
#: Seconds between two tries after a failure that may pass.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: A batch and the run that it belongs to.
Job = tuple["Registration", list[KeptAllele]]


class Alleles(Protocol):
    """A block's alleles; ``digests`` tell repeats without making them."""

    @property
    def digests(self) -> Sequence[bytes]:
        """The 24 bytes behind each allele's identifier."""

    def __getitem__(self, index: int) -> KeptAllele:
        """The allele at that place."""


class Registration:
    """The alleles of one run on their way to the store; made by ``Registrar.begin``.

    ``alleles`` counts those handed to the store, ``added`` those that were new to it. Digests are remembered
    for one run only, so that the next run restores rows that were deleted.
    """

    def __init__(self, waiting: queue.Queue[Job | None], patience: float, name: str) -> None:
        self.alleles = 0
        self.added = 0
        self._queue = waiting
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

    def add(self, alleles: Alleles, tick: Callable[[], None] = lambda: None) -> None:
        """Take the alleles of a block; waits while the store is behind, and calls ``tick`` meanwhile.

        Raises what an earlier batch failed with.
        """
        recent, older, batch = self._recent, self._older, self._batch
        for place, digest in enumerate(alleles.digests):
            if digest not in recent and digest not in older:
                recent.add(digest)
                batch.append(alleles[place])
        if len(batch) >= BATCH:
            self._send(tick)
        if len(recent) >= RECENT:
            self._older, self._recent = recent, set()

    def finish(self, tick: Callable[[], None] = lambda: None) -> None:
        """Return once everything is committed; ``tick`` is called now and then and may raise to give up."""
        self._send(tick)
        while True:
            with self._state:
                if self._failure or self._state.wait_for(lambda: not self._open_batches, timeout=TICK):
                    break
            tick()
        self._raise_failure()

    def detach(self, tick: Callable[[], None] = lambda: None) -> None:
        """Leave what is not yet written to the registrar; its failures are only logged from now on."""
        self._send(tick)
        with self._state:
            self._raise_failure()
            self._detached = True

    def drop(self) -> None:
        """Give up: what waits is not written any more."""
        self._batch = []
        self._dropped.set()

    def _send(self, tick: Callable[[], None]) -> None:
        self._raise_failure()
        if not self._batch:
            return None
        batch, self._batch = self._batch, []
        self.alleles += len(batch)
        with self._state:
            self._open_batches += 1
        while True:
            try:
                return self._queue.put((self, batch), timeout=TICK)
            except queue.Full:
                tick()

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    def write(self, store: Store, batch: list[KeptAllele]) -> None:
        """Write one batch, in a writer's thread; never raises."""
        added, lost, failure = 0, len(batch), None
        try:
            if not self._dropped.is_set():
                added, lost = self._insist(store, batch), 0
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

    def _insist(self, store: Store, batch: list[KeptAllele]) -> int:
        """Write the batch, again after failures that may pass; a batch that is written twice adds nothing."""
        deadline, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                return store.write(batch)
            except Unavailable as trouble:
                if time.monotonic() + pause > deadline or self._dropped.wait(pause):
                    raise
                _logger.warning("%s: %s; trying again", self._name, trouble)
                pause = min(pause * 2, LONGEST_PAUSE)


class Registrar:
    """The store's writers in one process, made after the fork; ``open_one`` makes a store for each."""

    def __init__(self, open_one: Callable[[], Store], *, patience: float = PATIENCE) -> None:
        self._open_one = open_one
        self._patience = patience
        self._queue: queue.Queue[Job | None] = queue.Queue(WAITING)
        self._threads: list[threading.Thread] = []

    def begin(self, name: str) -> Registration:
        """The registration of one run, by the name that the log calls it.

        Raises ConfigurationError where there can be no such store.
        """
        if not self._threads:
            first = self._open_one()
            stores = [first, *(self._open_one() for _ in range(first.writers - 1))]
            for store in stores:
                thread = threading.Thread(target=self._serve, args=(store,), name="registrar", daemon=True)
                thread.start()
                self._threads.append(thread)
        return Registration(self._queue, self._patience, name)

    def _serve(self, store: Store) -> None:
        while (job := self._queue.get()) is not None:
            registration, batch = job
            registration.write(store, batch)
            del registration, batch, job
        store.close()

    def close(self) -> None:
        """Write what still waits, then end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
