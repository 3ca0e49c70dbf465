"""What the run-status endpoint answers for a run's state: 200, 202, 404 or the configured failure code."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from anyvar_step import errors
from anyvar_step.models import Progress, RunStatus, State

#: Exceptions of Celery and billiard that have an error code of their own in AnyVar (CONTRACTS.md §3).
_CODES = {
    "TimeLimitExceeded": errors.TimeLimitReached.error_code,
    "SoftTimeLimitExceeded": errors.TimeLimitReached.error_code,
    "WorkerLostError": errors.RunLost.error_code,
}


def stated(run_id: str, state: State, result: Any = None) -> str:
    """What the result key of a run in that state holds, in Celery's own form."""
    return json.dumps(
        {"status": state, "result": result, "traceback": None, "children": [], "task_id": run_id}
    )


def stored_meta(run_id: str, raw: Any) -> dict[str, Any] | None:
    """The run's state and result in what its result key holds; None where there is no such key.

    Raises RunLost where that is not what Celery stores.
    """
    if not raw:
        return None
    try:
        meta = json.loads(raw)
    except (ValueError, RecursionError):
        meta = None
    if not (isinstance(meta, dict) and isinstance(meta.get("status"), str)):
        raise errors.RunLost(
            f"the state of run {run_id} in the result backend cannot be read",
            "Does another program write to that Redis database?",
        )
    return {"result": None, **meta}


def run_status(run_id: str, meta: dict[str, Any] | None, failure_code: int) -> RunStatus:
    """The status of a run whose result key holds ``meta`` (None where there is no such key)."""
    state = meta["status"] if meta else State.PENDING
    result = meta["result"] if meta else None
    if state == State.PENDING:
        return RunStatus(run_id=run_id, status_code=404, status="NOT_FOUND", message="Run not found")
    if state == State.SUCCESS:
        return RunStatus(
            run_id=run_id, status_code=200, status=state, message="Run completed", output=_path(result)
        )
    if state == State.REVOKED and not _says_lost(result):
        return RunStatus(
            run_id=run_id,
            status_code=failure_code,
            status=state,
            message="the run was cancelled",
            error_code=errors.RunCancelled.error_code,
            error_class=errors.RunCancelled.__name__,
        )
    if state in (State.FAILURE, State.REVOKED):
        return _failed(run_id, result, failure_code).model_copy(update={"status": state})
    progress = _progress(result) if state == State.PROGRESS else None
    return RunStatus(
        run_id=run_id, status_code=202, status=state, message="Run not completed", progress=progress
    )


def _says_lost(result: Any) -> bool:
    """Whether a run was revoked that nobody cancelled."""
    return isinstance(result, dict) and result.get("exc_type") == errors.RunLost.__name__


def _path(result: Any) -> str | None:
    return result if isinstance(result, str) and result else None


def _progress(result: Any) -> Progress | None:
    """How far the worker is; None where that is not as our workers say it: nothing hangs on it."""
    try:
        return Progress.model_validate(result)
    except ValidationError:
        return None


def _failed(run_id: str, result: Any, failure_code: int) -> RunStatus:
    """FAILURE with Celery's ``{"exc_type", "exc_message", "exc_module"}``."""
    details = result if isinstance(result, dict) else {"exc_type": "", "exc_message": [str(result)]}
    name = str(details.get("exc_type", ""))
    message = details.get("exc_message") or name
    if isinstance(message, list | tuple):
        message = " ".join(map(str, message))
    return RunStatus(
        run_id=run_id,
        status_code=failure_code,
        status=State.FAILURE,
        message=str(message) or name,
        error_code=error_code_of(name),
        error_class=name,
    )


def error_code_of(name: str) -> str:
    """The error code of a run that failed with the exception of that name."""
    return _CODES.get(name) or errors.named(name).error_code
