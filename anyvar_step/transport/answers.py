"""The run status that a web API's answer stands for: the same object as the board's would give."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from anyvar_step.broker.status import run_status
from anyvar_step.errors import RunLost, TimeLimitReached
from anyvar_step.models import RunStatus, State
from anyvar_step.transport.rest import ERROR_CLASS, PROGRESS, STATE

#: The exceptions behind AnyVar's error codes, which is all that AnyVar's web API says of them.
_CLASSES = {TimeLimitReached.error_code: "TimeLimitExceeded", RunLost.error_code: "WorkerLostError"}


def run_path(run_id: str) -> str:
    """Where the run is, below the web API's address."""
    return f"vcf/{quote(run_id, safe='')}"


def is_file(response: httpx.Response) -> bool:
    """Whether the answer is a finished run's output; a run without one is answered in JSON."""
    return response.status_code == 200 and "json" not in response.headers.get("content-type", "")


def is_anyvars_own(response: httpx.Response) -> bool:
    """Whether the answer to a HEAD is AnyVar's, which knows no HEAD, and not a failure code of 405."""
    return response.status_code == 405 and "allow" in response.headers


def status_of(run_id: str, response: httpx.Response, body: dict[str, Any]) -> RunStatus | None:
    """The run's status; None where the answer is no run's status but a server's or a proxy's own trouble.

    A failed run is told by its ``error_code``: the failure code may be any, also that of a proxy's trouble.
    """
    code = response.status_code
    if code >= 400 and isinstance(body.get("error_code"), str):
        return _failed(run_id, code, body)
    if code == 404 and body.get("status") == "NOT_FOUND":
        return run_status(run_id, None, code)
    if code == 200 and body.get("status") == State.SUCCESS:
        return run_status(run_id, {"status": State.SUCCESS, "result": None}, code)
    if code == 202:
        # AnyVar's web API does not tell a queued run from one at work: SENT, as its workers have it.
        return run_status(run_id, {"status": _state(body), "result": body.get(PROGRESS)}, code)
    return None


def _failed(run_id: str, code: int, body: dict[str, Any]) -> RunStatus:
    error_code = body["error_code"]
    if error_code == "RUN_CANCELLED":
        return run_status(run_id, {"status": State.REVOKED, "result": None}, code)
    name = body.get(ERROR_CLASS) or _CLASSES.get(error_code, "")
    result = {"exc_type": name, "exc_message": [str(body.get("error") or name)]}
    status = run_status(run_id, {"status": State.FAILURE, "result": result}, code)
    return status.model_copy(update={"error_code": error_code})


def _state(body: dict[str, Any]) -> str:
    state = str(body.get(STATE))
    return state if state in State.__members__ and state != State.PENDING else State.SENT
