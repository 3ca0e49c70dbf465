"""The tree of failures, and the table to and from the names, codes and statuses of others."""

from __future__ import annotations

import pickle
import re

import pytest
from celery.app import app_or_default
from support import ROOT

from anyvar_step import errors
from anyvar_step.cli import EXIT_CODES
from anyvar_step.client.transport import error_of
from anyvar_step.runs.state import run_status

KINDS = [errors.StepError, *errors.kinds()]


@pytest.mark.parametrize("kind", KINDS)
def test_help_and_readme_name_each_exit_code(kind: type[errors.StepError]) -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(rf"\b{kind.exit_code}\b", EXIT_CODES)
    assert f"| {kind.exit_code} |" in readme or f"| {kind.exit_code}, " in readme


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_survives_the_result_backend_and_the_pool(kind: type[errors.StepError]) -> None:
    """Celery stores the class name and the arguments; a worker process pickles the exception."""
    before = kind("what happened", "What to do")
    stored = app_or_default().backend.prepare_exception(before, serializer="json")
    assert errors.from_name(stored["exc_type"]) is kind
    assert str(kind(*stored["exc_message"])) == str(before) == "what happened. What to do"
    after = pickle.loads(pickle.dumps(before))
    assert (type(after), str(after)) == (kind, str(before))


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("TimeLimitExceeded", errors.TimeLimitReached, "TIME_LIMIT_EXCEEDED"),
        ("SoftTimeLimitExceeded", errors.TimeLimitReached, "TIME_LIMIT_EXCEEDED"),
        ("WorkerLostError", errors.RunLost, "WORKER_LOST_ERROR"),
        ("FileSpoiled", errors.CorruptFile, "RUN_FAILURE"),
        ("CorruptFile", errors.CorruptFile, "RUN_FAILURE"),
        ("InvalidInput", errors.InvalidInput, "RUN_FAILURE"),
        ("ZeroDivisionError", errors.StepError, "RUN_FAILURE"),
        ("Interrupted", errors.StepError, "RUN_FAILURE"),
        ("", errors.StepError, "RUN_FAILURE"),
    ],
)
def test_an_exception_of_a_run_is_one_failure_by_its_name(
    name: str, kind: type[errors.StepError], code: str
) -> None:
    assert errors.from_name(name) is kind
    result = {"exc_type": name, "exc_message": ["what happened"], "exc_module": "x"}
    status = run_status("run-1", {"status": "FAILURE", "result": result}, 500)
    assert status.error_code == code
    assert type(error_of(status)) is kind
    assert "what happened" in str(error_of(status))


def test_an_error_code_alone_leads_to_the_same_failure_as_the_exception_behind_it() -> None:
    for kind in (errors.TimeLimitReached, errors.RunLost):
        assert errors.from_name(errors.name_from_code(kind.error_code)) is kind
    assert errors.name_from_code("RUN_FAILURE") == errors.name_from_code("anything") == ""


def test_a_failure_deep_in_the_tree_is_found_by_name_and_keeps_its_exit_code() -> None:
    class Deep(errors.CorruptFile):
        """Two levels below StepError's own children."""

    assert errors.from_name("Deep") is Deep
    assert errors.from_exit_code(74, errors.Unavailable) is errors.FileTrouble
    assert errors.from_exit_code(1, errors.Unavailable) is errors.Unavailable


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, errors.ConfigurationError),
        (401, errors.AccessRefused),
        (403, errors.AccessRefused),
        (404, errors.ConfigurationError),
        (413, errors.InvalidInput),
        (422, errors.ConfigurationError),
        (429, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
def test_an_http_status_is_a_failure(status: int, kind: type[errors.StepError]) -> None:
    assert errors.from_http_status(status) is kind


def test_an_ingestion_that_anyvars_worker_cannot_do_is_told_as_such() -> None:
    from anyvar_step.client.transport import end_failed
    from anyvar_step.models import IngestOptions, Manifest
    from anyvar_step.runs.state import run_status

    class Ending:
        def forget(self, ticket: Manifest) -> None:
            self.forgotten = ticket

    ticket = Manifest(
        run_id="r",
        digest="d",
        input_name="in.vcf",
        input_size=1,
        input_sha256="s",
        options=IngestOptions(),
        folder="20260101/r",
        staged_input="input.vcf",
        submitted="",
    )
    result = {"exc_type": "ValidationError", "exc_message": ["1 validation error for Allele"]}
    transport = Ending()
    problem = end_failed(transport, ticket, run_status("r", {"status": "FAILURE", "result": result}, 500))  # type: ignore[arg-type]
    assert "AnyVar's own worker, which cannot ingest literal alleles" in str(problem)
    assert transport.forgotten == ticket
