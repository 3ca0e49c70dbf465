"""What 100 workers cost one Redis: their traffic alone, without their work.

Each simulated worker is threads of this process with the real code: kombu's consumer on the queue, the
heartbeat of the worker registry, and, while it is at work, the lock and progress of one run.

    python benchmarks/scale.py [--workers N] [--small]
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from common import Table, main, private_site
from data import make_data
from limits import Load
from support import Site

from anyvar_step.models import Progress, State
from anyvar_step.runs.queue import make_app
from anyvar_step.runs.state import RunState
from anyvar_step.runs.worker_lock import RunLock
from anyvar_step.runs.worker_registry import RegistryHeartbeat, WorkerRecord
from anyvar_step.settings import Settings, load

#: Seconds for which the traffic is watched, after as many to settle.
WATCHED = 20.0


def consume(settings: Settings, ended: threading.Event) -> None:
    """Wait for messages of the queue as a Celery worker does."""
    with make_app(settings) as app, app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(connection.default_channel)
        consumer.consume()
        while not ended.is_set():
            with contextlib.suppress(socket.timeout):
                connection.drain_events(timeout=1)


@contextlib.contextmanager
def worker(settings: Settings, number: int) -> Iterator[None]:
    """An idle worker: registered, and waiting for messages."""
    record = WorkerRecord(
        id=f"simulated-{number}",
        name="",
        host=f"node-{number}",
        user="user",
        pid=number,
        processes=8,
        queues=(settings.task_default_queue,),
        tasks=("annotate",),
        version="simulated",
        celery="simulated",
        work_dir="/work",
        references={},
        limits=settings.limits(),
    )
    heartbeat = RegistryHeartbeat(settings, record, lambda: (), lambda _: None)
    ended = threading.Event()
    thread = threading.Thread(target=consume, args=(settings, ended))
    heartbeat.start(f"simulated-{number}@node")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        heartbeat.stop()
        thread.join()


@contextlib.contextmanager
def run(settings: Settings, number: int) -> Iterator[None]:
    """A run at work in one process of a worker."""
    run_id = f"simulated-{number}"
    with RunState(settings) as state:
        state.write(run_id, State.SENT)
    with RunLock(settings, run_id, f"node-{number}") as lock:
        lock.start_heartbeat()
        lock.report(Progress(worker=f"node-{number}", records=1000, fraction=0.5))
        yield


def watched(site: Site, what: str, number: int) -> list[object]:
    """What Redis does now, as a row."""
    load_now = Load(site.redis_url)
    time.sleep(WATCHED)
    load_now.since()
    time.sleep(WATCHED)
    commands, cpu, seconds = load_now.since()
    info = load_now.client.info()
    return [
        what,
        number,
        commands / seconds,
        100 * cpu / seconds,
        int(info["connected_clients"]) - 1,
        info["used_memory"] / 1e6,
    ]


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Rows for idle workers and for workers at work."""
    fasta, _ = make_data(where, 1000)
    rows = []
    with private_site(where, fasta) as site, contextlib.ExitStack() as stack:
        settings = load(site.environ)
        for number in range(options.workers):
            stack.enter_context(worker(settings, number))
        rows.append(watched(site, "idle", options.workers))
        for number in range(options.workers):
            stack.enter_context(run(settings, number))
        rows.append(watched(site, "one run each at work", options.workers))
    head = ["workers", "number", "commands/s", "% of a core", "connections", "Redis memory, MB"]
    return [Table("scale", head, rows)]


if __name__ == "__main__":
    main(__doc__, tables, workers=(100, 5))
