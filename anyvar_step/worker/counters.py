"""What a worker counts for Prometheus: runs, failures, records, seconds; and the queue's length when asked.

The worker's processes count in files of one folder, PROMETHEUS_MULTIPROC_DIR, and the parent adds them up:
prometheus_client's own way for processes that fork. The variable must be set before this module is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.signals import task_failure, task_success
from celery.worker import state
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from anyvar_step.errors import StepError, from_name
from anyvar_step.models import AnnotateOptions, IngestOptions
from anyvar_step.pipeline import Outcome
from anyvar_step.runs.queue import Queue
from anyvar_step.settings import Settings

#: Upper bounds of the histogram of run times, seconds: a small VCF, an exome, a genome, an hour and more.
BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 28_800)
#: Names of the tasks in labels.
_TASKS = {AnnotateOptions: "annotate_vcf", IngestOptions: "ingest_annotated_vcf"}


class Counters:
    """The counters of this process: Celery's signals count runs, ``observe`` counts their records.

    A process that is killed counts nothing; Celery signals its failure in the parent process.
    """

    def __init__(self) -> None:
        runs = ("Runs that ended", ["task", "status"])
        self._runs = Counter("anyvar_step_runs", *runs, registry=None)
        codes = ("Failed runs by error code and exit code", ["task", "error_code", "exit_code"])
        self._failures = Counter("anyvar_step_failures", *codes, registry=None)
        self._records = Counter("anyvar_step_records", "Records of finished runs", ["task"], registry=None)
        causes = ("Records with VRS_Error, or on an unknown contig", ["cause"])
        self._without = Counter("anyvar_step_records_without_ids", *causes, registry=None)
        spent = ("Work on finished runs", ["task"])
        self._seconds = Histogram("anyvar_step_run_seconds", *spent, buckets=BUCKETS, registry=None)
        phases = ("Work on finished runs, by phase", ["task", "phase"])
        self._phases = Counter("anyvar_step_phase_seconds", *phases, registry=None)
        task_success.connect(self._succeeded)
        task_failure.connect(self._failed)

    def observe(self, options: AnnotateOptions | IngestOptions, outcome: Outcome) -> None:
        """Count what one run did."""
        task, counts = _TASKS[type(options)], outcome.counts
        self._records.labels(task).inc(counts.records)
        self._seconds.labels(task).observe(sum(outcome.seconds.values()))
        for phase, seconds in outcome.seconds.items():
            self._phases.labels(task, phase).inc(seconds)
        for cause, number in counts.errors.items():
            self._without.labels(cause).inc(number)
        if counts.unknown_contigs:
            self._without.labels("unknown_contig").inc(sum(counts.unknown_contigs.values()))

    def _succeeded(self, sender: Any = None, **_: Any) -> None:
        self._runs.labels(_task_of(sender), "success").inc()

    def _failed(self, sender: Any = None, exception: BaseException | None = None, **_: Any) -> None:
        name = type(exception).__name__
        kind = exception if isinstance(exception, StepError) else from_name(name)
        self._runs.labels(_task_of(sender), "failure").inc()
        self._failures.labels(_task_of(sender), kind.error_code, str(kind.exit_code)).inc()


def _task_of(sender: Any) -> str:
    return str(getattr(sender, "name", sender)).rpartition(".")[2]


class Gauges(Collector):
    """Gauges that are read at each scrape, in the worker's parent process."""

    def __init__(self, settings: Settings, processes: int) -> None:
        self._queue = Queue(settings)
        self._processes = processes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Queue length (left out while Redis is away), runs at work, processes."""
        length = GaugeMetricFamily("anyvar_step_queue_length", "Runs waiting in the queue", labels=["queue"])
        try:
            length.add_metric([self._queue.name], self._queue.length())
            yield length
        except StepError:
            pass
        at_work = len(state.active_requests)
        yield GaugeMetricFamily("anyvar_step_runs_at_work", "Runs at work in this worker", at_work)
        yield GaugeMetricFamily("anyvar_step_processes", "Processes of this worker", self._processes)
