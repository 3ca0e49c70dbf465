"""AnyVar's Celery tasks: its names, arguments, results and failures (docs/contract.md#celery-messages)."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from billiard.exceptions import TimeLimitExceeded
from celery import Celery, Task
from celery.exceptions import Ignore

from anyvar_step import reference
from anyvar_step.errors import ConfigurationError, StepError, TimeLimitReached
from anyvar_step.models import AnnotateOptions, IngestOptions
from anyvar_step.runs.keys import ANNOTATE_VCF, INGEST_ANNOTATED_VCF
from anyvar_step.settings import Settings
from anyvar_step.worker.job import Job, NothingToDo, Observe, Registrations

Options = TypeVar("Options", AnnotateOptions, IngestOptions)

_logger = logging.getLogger(__name__)


class OpenReferences:
    """The references that this process has opened, by assembly; after the fork, at first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, reference.Reference] = {}

    def __call__(self, assembly: str) -> reference.Reference:
        """The reference of that assembly; ConfigurationError where the worker has none.

        A FASTA that was replaced or changed since the last run is opened anew.
        """
        if assembly in self._open and not self._open[assembly].is_current():
            self._open.pop(assembly).close()
        if assembly not in self._open:
            self._open[assembly] = reference.for_assembly(
                self._settings.references,
                assembly,
                seqrepo=self._settings.seqrepo_uri,
                aliases=self._settings.reference_aliases,
            )
        return self._open[assembly]


class SoftLimit:
    """Notes that billiard's parent process says that the soft time limit has passed, by SIGUSR1.

    Billiard's own handler raises, once, wherever the process happens to be: in a destructor or in a library
    that catches all it is lost, and elsewhere it leaves locks and connections half done. Runs ask instead,
    between two blocks and while they wait. What cannot ask ends at the hard limit, with the same failure.
    """

    def __init__(self) -> None:
        self._passed = False

    def begin(self) -> None:
        """The clock of a new run starts; billiard has set its handler after the fork."""
        self._passed = False
        signal.signal(signal.SIGUSR1, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._passed = True

    def passed(self) -> bool:
        """Whether this process's run should end."""
        return self._passed


def register(app: Celery, settings: Settings, observe: Observe) -> None:
    """Make the app serve AnyVar's tasks; ``observe`` is called after each finished run."""
    references, registrations, soft_limit = OpenReferences(settings), Registrations(settings), SoftLimit()
    # Celery logs the exceptions in ``throws`` in one line, all others with a traceback.
    one_line = {"throws": (StepError,)}

    def run(task: Task, kind: type[Options], path: str, newer: Mapping[str, Any], **arguments: Any) -> str:
        refuse_newer(newer)
        checked, options = parse_arguments(kind, path, **arguments)
        soft_limit.begin()
        run_id = task.request.id
        job = Job(settings, references, registrations, run_id, checked, options, observe, soft_limit.passed)
        try:
            return job.run()
        except NothingToDo as reason:
            _logger.info("%s", reason)
            raise Ignore(str(reason)) from None
        except TimeLimitReached:  # AnyVar answers TIME_LIMIT_EXCEEDED for billiard's exception
            raise TimeLimitExceeded(settings.soft_time_limit) from None

    @app.task(name=ANNOTATE_VCF, bind=True, **one_line)  # type: ignore[untyped-decorator]
    def annotate_vcf(
        self: Task,
        input_file_path: str,
        assembly: str,
        for_ref: bool,
        allow_async_write: bool,
        add_vrs_attributes: bool,
        **newer: Any,
    ) -> str:
        return run(
            self,
            AnnotateOptions,
            input_file_path,
            newer,
            assembly=assembly,
            for_ref=for_ref,
            allow_async_write=allow_async_write,
            add_vrs_attributes=add_vrs_attributes,
        )

    @app.task(name=INGEST_ANNOTATED_VCF, bind=True, **one_line)  # type: ignore[untyped-decorator]
    def ingest_annotated_vcf(
        self: Task,
        input_file_path: str,
        assembly: str,
        allow_async_write: bool,
        require_validation: bool,
        **newer: Any,
    ) -> str:
        return run(
            self,
            IngestOptions,
            input_file_path,
            newer,
            assembly=assembly,
            allow_async_write=allow_async_write,
            require_validation=require_validation,
        )


def parse_arguments(kind: type[Options], path: object, **options: object) -> tuple[Path, Options]:
    """Parse the task's arguments. Raises ConfigurationError if they are not those of a step or web API."""
    try:
        if not isinstance(path, str):
            raise TypeError("input_file_path is no text")
        return Path(path), kind.model_validate(options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the task's arguments are wrong: {error}", "Who queued it?") from None


def refuse_newer(arguments: Mapping[str, Any]) -> None:
    """Ignore unknown arguments, of later AnyVar versions, whose value is false, None or empty.

    Raises ConfigurationError for others: the run would differ from its caller's request.
    """
    if unknown := [f"{name}={value!r}"[:100] for name, value in arguments.items() if value]:
        raise ConfigurationError(
            f"this worker does not know the task's arguments {', '.join(unknown)}: AnyVar's web API is newer "
            "than this worker",
            "Leave out that option, update anyvar-step, or let AnyVar's own worker do the run",
        )
