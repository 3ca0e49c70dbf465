"""The registrar's threads: what a run is told of its store's failures, and that nothing waits for ever."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import pytest

from anyvar_step.errors import AccessRefused, StepError, Unavailable
from anyvar_step.models import KeptAllele
from anyvar_step.store import Store
from anyvar_step.store.registrar import BATCH, RECENT, Registrar, Registration


class Numbered:
    """Made-up alleles by number."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.digests = [number.to_bytes(24) for number in numbers]

    def __getitem__(self, place: int) -> KeptAllele:
        number = int.from_bytes(self.digests[place])
        return KeptAllele(f"ga4gh:VA.{number}", "ga4gh:SL.1", "SQ.1", 0, 1, "G", None, None)


class Memory:
    """A store in memory; ``fail`` is called before each write and may raise."""

    writers = 2

    def __init__(self, rows: set[str], fail: Callable[[], None]) -> None:
        self._rows = rows
        self._fail = fail

    def prepare(self) -> None:
        """Nothing to do."""

    def write(self, alleles: Sequence[KeptAllele]) -> int:
        """Keep the ids."""
        self._fail()
        new = {allele.id for allele in alleles} - self._rows
        self._rows |= new
        return len(new)

    def close(self) -> None:
        """Nothing to do."""


class Failing:
    """Raises the errors one after the other, then no more."""

    def __init__(self, *errors: Exception) -> None:
        self.left = list(errors)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.left:
            raise self.left.pop(0)


def begin(
    fail: Callable[[], None] = lambda: None, patience: float = 5.0
) -> tuple[Registration, set[str], Registrar]:
    rows: set[str] = set()

    def one() -> Store:
        return Memory(rows, fail)

    registrar = Registrar(one, patience=patience)
    return registrar.begin("run 1"), rows, registrar


def test_alleles_that_repeat_nearby_are_handed_over_once() -> None:
    registration, rows, registrar = begin()
    for _ in range(3):
        registration.add(Numbered(range(100)))
    registration.add(Numbered(range(2 * RECENT)))
    registration.finish()
    registrar.close()
    assert registration.alleles == registration.added == len(rows) == 2 * RECENT


def test_a_failure_that_may_pass_is_tried_again() -> None:
    fail = Failing(Unavailable("away"), Unavailable("still away"))
    registration, rows, registrar = begin(fail)
    registration.add(Numbered(range(10)))
    registration.finish()
    registrar.close()
    assert len(rows) == 10
    assert fail.calls == 3


def test_a_failure_that_stays_is_raised_when_patience_ends() -> None:
    fail = Failing(*[Unavailable("away")] * 1000)
    registration, rows, registrar = begin(fail, patience=0.5)
    registration.add(Numbered(range(10)))
    with pytest.raises(Unavailable, match="away"):
        registration.finish()
    registrar.close()
    assert rows == set()


def test_a_failure_that_cannot_pass_is_raised_at_once_and_stops_the_run() -> None:
    fail = Failing(AccessRefused("no right"))
    registration, rows, registrar = begin(fail)

    def run() -> None:
        for start in range(0, 100 * BATCH, BATCH):
            registration.add(Numbered(range(start, start + BATCH)))
        registration.finish()

    with pytest.raises(AccessRefused):
        run()
    assert fail.calls < 10
    again = registrar.begin("run 1")  # the next run is none of its business
    again.add(Numbered(range(5)))
    again.finish()
    registrar.close()
    assert again.alleles == 5
    assert len(rows) >= 5


def test_a_fault_of_our_own_is_a_failure_of_the_run_too() -> None:
    registration, _, registrar = begin(Failing(ZeroDivisionError("what?")))
    registration.add(Numbered(range(10)))
    with pytest.raises(StepError, match="ZeroDivisionError"):
        registration.finish()
    registrar.close()


def test_a_store_that_is_behind_holds_the_run_back() -> None:
    gate = threading.Event()
    registration, rows, registrar = begin(lambda: bool(gate.wait(100)))
    ahead: list[int] = []

    def work() -> None:
        for start in range(0, 20 * BATCH, BATCH):
            registration.add(Numbered(range(start, start + BATCH)))
            ahead.append(start)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(1.0)
    assert thread.is_alive()
    assert len(ahead) <= 6  # in the writers' hands, in the queue, and one to come
    gate.set()
    thread.join()
    registration.finish()
    registrar.close()
    assert len(rows) == 20 * BATCH


def test_what_a_run_could_not_write_late_is_counted_in_one_line_with_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()

    def fail() -> None:
        gate.wait(100)
        raise AccessRefused("no right")

    registration, rows, registrar = begin(fail)
    registration.add(Numbered(range(BATCH)))
    registration.add(Numbered(range(BATCH, BATCH + 7)))
    registration.detach()
    gate.set()
    registrar.close()
    assert rows == set()
    assert caplog.messages == [f"run 1: {BATCH + 7} alleles were not registered: no right"]


def test_a_run_that_is_given_up_writes_no_more_and_its_successor_does() -> None:
    gate = threading.Event()
    registration, rows, registrar = begin(lambda: bool(gate.wait(100)))
    for start in range(0, 3 * BATCH, BATCH):
        registration.add(Numbered(range(start, start + BATCH)))
    registration.drop()
    gate.set()
    following = registrar.begin("run 1")
    following.add(Numbered(range(1_000_000, 1_000_010)))
    following.finish()
    registrar.close()
    assert following.added == 10
    assert len(rows) <= 2 * BATCH + 10  # what the two writers had in their hands


def test_who_waits_for_the_end_is_asked_whether_to_go_on() -> None:
    gate = threading.Event()
    registration, _, registrar = begin(lambda: bool(gate.wait(100)))
    registration.add(Numbered(range(10)))

    def tick() -> None:
        raise KeyboardInterrupt

    registration.tick = tick
    with pytest.raises(KeyboardInterrupt):
        registration.finish()
    gate.set()
    registrar.close()


def test_a_run_that_waits_for_a_store_that_hangs_can_be_given_up() -> None:
    going_on = threading.Event()

    def hang() -> None:
        going_on.wait()

    def tick() -> None:
        raise TimeoutError

    registration, rows, registrar = begin(hang)
    registration.tick = tick

    def add_for_ever() -> None:
        for first in itertools.count(step=BATCH):
            registration.add(Numbered(range(first, first + BATCH)))

    with pytest.raises(TimeoutError):
        add_for_ever()
    registration.drop()
    going_on.set()
    registrar.close()
    assert len(rows) < registration.alleles
