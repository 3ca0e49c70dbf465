"""Runs in the queue: whether anybody serves it is asked for all together, and lost ones are found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from support import Site, write_vcf

from anyvar_step.client import wait
from anyvar_step.client.celery import CeleryTransport
from anyvar_step.client.wait import Patience, wait_all
from anyvar_step.errors import Unavailable
from anyvar_step.models import AnnotateOptions, Manifest, RunRequest
from anyvar_step.runs.connection import connect
from anyvar_step.runs.queue import Queue
from anyvar_step.settings import load


class Counting(CeleryTransport):
    """Counts the questions that cost a second."""

    asked = 0

    def worker_processes(self) -> int:
        self.asked += 1
        return super().worker_processes()

    def unreceived(self, run_ids: Sequence[str]) -> Collection[str]:
        self.asked += 1
        return super().unreceived(run_ids)


@pytest.fixture
def transport(site: Site) -> Iterator[Counting]:
    with contextlib.closing(Counting(load(site.environ))) as made:
        yield made
        for ticket in list(made.held.values()):
            made.cancel(ticket, shared=False)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions come soon and often."""
    monkeypatch.setattr(wait, "FIRST_QUESTION_SECONDS", 0.5)
    monkeypatch.setattr(wait, "QUESTION_SECONDS", 1.5)


def submitted(transport: Counting, genome: Path, folder: Path, number: int) -> list[Manifest]:
    tickets = []
    for seed in range(number):
        path = write_vcf(folder / f"{seed}.vcf", genome, records=20, seed=seed)
        with path.open("rb") as source:
            tickets.append(transport.submit(source, path.name, RunRequest(options=AnnotateOptions()))[0])
    return tickets


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_no_worker_is_found_out_once_for_all_runs(transport: Counting, genome: Path, tmp_path: Path) -> None:
    tickets = submitted(transport, genome, tmp_path, 20)
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="no worker serves the queue"):
        list(wait_all(transport, tickets, Patience(queue_timeout=4), lambda _: None))
    took = time.monotonic() - begin
    assert took >= 4
    assert 2 <= transport.asked <= 2 + took / 1.5, "once for all runs, every second and a half"


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_while_one_run_is_at_work_no_worker_is_asked_for_those_in_the_queue(
    transport: Counting, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = submitted(transport, genome, tmp_path, 3)
    monkeypatch.setattr(Queue, "celery", lambda _: pytest.fail("a worker was asked"))
    queue = wait.QueueWatch(transport, Patience(queue_timeout=1.0))
    begin = time.monotonic()
    while time.monotonic() - begin < 3:
        queue.check(tickets, at_work=True)
        time.sleep(0.05)
    assert transport.asked >= 1  # whether the queue may have them, which costs nothing
    monkeypatch.undo()


@pytest.mark.usefixtures("often")
def test_runs_whose_messages_are_gone_are_queued_again(
    site: Site, transport: Counting, genome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tickets = submitted(transport, genome, tmp_path, 3)
    with connect(site.redis_url) as redis:
        redis.lpop(site.queue)
        redis.rpop(site.queue)
    with site.worker():
        ended = dict(wait_all(transport, tickets, Patience(), lambda _: None))
    assert [ended[number].status_code for number in range(3)] == [200, 200, 200]
    lost = [record.args[0] for record in caplog.records if "was lost before a worker began it" in record.msg]  # type: ignore[index]
    assert sorted(lost) == sorted(ticket.run_id for ticket in (tickets[0], tickets[2]))
    for ticket in tickets:
        transport.forget(ticket)
    assert site.left_over() == []
