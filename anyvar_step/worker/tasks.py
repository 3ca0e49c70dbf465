"""AnyVar's Celery tasks, served by us: the same names, arguments, results and failures (CONTRACTS.md §2)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery import Celery, Task
from celery.exceptions import Ignore

from anyvar_step import __version__, reference
from anyvar_step.broker.names import ANNOTATE_VCF, INGEST_ANNOTATED_VCF, VERSION_MARK
from anyvar_step.errors import ConfigurationError
from anyvar_step.models import AnnotateOptions, IngestOptions
from anyvar_step.settings import Settings
from anyvar_step.worker.job import Job, NothingToDo, Observe
from anyvar_step.worker.stores import Registrations

Options = TypeVar("Options", AnnotateOptions, IngestOptions)

_logger = logging.getLogger(__name__)


class References:
    """The references that this process has opened, by assembly; after the fork, at first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, reference.Reference] = {}

    def __call__(self, assembly: str) -> reference.Reference:
        """The reference of that assembly; ConfigurationError where the worker has none."""
        if assembly not in self._open:
            self._open[assembly] = reference.for_assembly(
                self._settings.references,
                assembly,
                seqrepo=self._settings.seqrepo_uri,
                aliases=self._settings.reference_aliases,
            )
        return self._open[assembly]


def register(app: Celery, settings: Settings, observe: Observe) -> None:
    """Make the app serve AnyVar's tasks; ``observe`` is told of what each run did."""
    references, registrations = References(settings), Registrations(settings)
    mark = {VERSION_MARK: __version__}

    @app.task(name=ANNOTATE_VCF, bind=True, **mark)  # type: ignore[untyped-decorator]
    def annotate_vcf(
        self: Task,
        input_file_path: str,
        assembly: str,
        for_ref: bool,
        allow_async_write: bool,
        add_vrs_attributes: bool,
    ) -> str:
        path, options = asked(
            AnnotateOptions,
            input_file_path,
            assembly=assembly,
            for_ref=for_ref,
            allow_async_write=allow_async_write,
            add_vrs_attributes=add_vrs_attributes,
        )
        job = Job(settings, references, registrations, self.request.id, observe)
        return delivered(job.annotate, path, options, limit=settings.soft_time_limit)

    @app.task(name=INGEST_ANNOTATED_VCF, bind=True, **mark)  # type: ignore[untyped-decorator]
    def ingest_annotated_vcf(
        self: Task,
        input_file_path: str,
        assembly: str,
        allow_async_write: bool,
        require_validation: bool,
    ) -> str:
        path, options = asked(
            IngestOptions,
            input_file_path,
            assembly=assembly,
            allow_async_write=allow_async_write,
            require_validation=require_validation,
        )
        job = Job(settings, references, registrations, self.request.id, observe)
        return delivered(job.ingest, path, options, limit=settings.soft_time_limit)


def asked(kind: type[Options], path: object, **options: object) -> tuple[Path, Options]:
    """What the message asks for. Raises ConfigurationError where it was not made by a step or web API."""
    try:
        if not isinstance(path, str):
            raise TypeError("input_file_path is no text")
        return Path(path), kind.model_validate(options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the task's arguments are wrong: {error}", "Who queued it?") from None


def delivered(work: Any, path: Path, options: Any, *, limit: int) -> str:
    """The job's result, with its endings in the words that Celery and AnyVar's web API know.

    The soft limit becomes billiard's TimeLimitExceeded, which AnyVar answers as TIME_LIMIT_EXCEEDED.
    """
    try:
        result: str = work(path, options)
    except NothingToDo as reason:
        _logger.info("%s", reason)
        raise Ignore(str(reason)) from None
    except SoftTimeLimitExceeded:
        raise TimeLimitExceeded(limit) from None
    return result
