"""AnyVar's asynchronous registration of variations: passed to the queue, where AnyVar's own workers do it.

Source of paths, bodies and codes: docs/contract.md#newer-anyvar.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from anyvar_step.errors import RunLost
from anyvar_step.runs.keys import REGISTER_VARIATIONS
from anyvar_step.runs.queue import Queue
from anyvar_step.runs.state import RunState, run_status
from anyvar_step.settings import Settings
from anyvar_step.web.runs import Refused, check_run_id, settings_of

router = APIRouter()

#: Bytes of a request's body.
LONGEST_BODY = 16 << 20
#: Seconds for which an unknown run is looked for, and between two looks, as AnyVar has them.
LOOK_SECONDS, LOOK_EVERY = 5.0, 0.5
#: Retry-After of a run at work, as AnyVar has it.
RETRY_AFTER = 2


@router.put("/variations", summary="Register variations", response_model=None)
async def register_variations(
    request: Request,
    run_async: Annotated[bool, Query(description="Answer 202 at once; required here")] = False,
    run_id: Annotated[str | None, Query(description="The run's id; without it a random one")] = None,
) -> Response:
    """Queue the JSON list of variation requests for one of AnyVar's workers; 202 with the run's id."""
    if not run_async:
        raise Refused(
            400, "variations are registered with run_async=true only; AnyVar's own web API does both"
        )
    run_id = run_id or str(uuid.uuid4())
    check_run_id(run_id)
    variations = await _variations(request)
    settings = settings_of(request)
    if not await run_in_threadpool(_submit, settings, run_id, variations):
        raise Refused(400, f"run id {run_id} is in use: fetch that run's result, or choose another id")
    where = f"/variations/{run_id}"
    seconds = max(1, round(len(variations) / settings.expected_variations_per_second))
    return JSONResponse(
        _body(run_id, "PENDING", f"Run submitted. Check status at {where}"),
        202,
        headers={"Location": where, "Retry-After": str(seconds)},
    )


@router.get("/variations/{run_id:path}", summary="Status or result of a registration", response_model=None)
async def get_variations_run(request: Request, run_id: str) -> Response:
    """200 with the worker's list, 202 while it works, 404 for an unknown run, or the failure code."""
    check_run_id(run_id)
    settings = settings_of(request)
    until = time.monotonic() + LOOK_SECONDS
    while (meta := await run_in_threadpool(_meta, settings, run_id)) is None and time.monotonic() < until:
        if await request.is_disconnected():
            break
        await anyio.sleep(LOOK_EVERY)
    status = run_status(run_id, meta, settings.variations_failure_status_code)
    if status.missing:
        return JSONResponse(_body(run_id, "NOT_FOUND", "Run not found"), 404)
    if status.running:
        waiting = _body(run_id, "PENDING", f"Run not completed. Check status at /variations/{run_id}")
        return JSONResponse(waiting, 202, headers={"Retry-After": str(RETRY_AFTER)})
    await run_in_threadpool(_forget, settings, run_id)
    if status.error_code is not None:
        return JSONResponse({"error": status.message, "error_code": status.error_code}, status.status_code)
    assert meta is not None
    return JSONResponse(meta["result"])


async def _variations(request: Request) -> list[Any]:
    """The list in the request's body."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            raise Refused(413, f"the list of variations is larger than {LONGEST_BODY} bytes")
    try:
        variations = json.loads(body)
    except (ValueError, RecursionError):
        variations = None
    if not (isinstance(variations, list) and all(isinstance(each, dict) for each in variations)):
        message = "Input should be a JSON list of variation requests"
        raise RequestValidationError([{"type": "list_type", "loc": ("body",), "msg": message, "input": None}])
    return variations


def _submit(settings: Settings, run_id: str, variations: list[Any]) -> bool:
    """Queue the run; False where its id is in use."""
    with RunState(settings) as state:
        if not state.create(run_id):
            return False
        try:
            Queue(settings).publish(REGISTER_VARIATIONS, {"variation_requests_json": variations}, run_id)
        except BaseException:
            state.forget(run_id, "")
            raise
        state.mark_published(run_id)
    return True


def _meta(settings: Settings, run_id: str) -> dict[str, Any] | None:
    with RunState(settings) as state:
        try:
            return state.meta(run_id)
        except RunLost:
            return None


def _forget(settings: Settings, run_id: str) -> None:
    with RunState(settings) as state:
        state.forget(run_id, "")


def _body(run_id: str, status: str, message: str) -> dict[str, Any]:
    return {"run_id": run_id, "status": status, "status_message": message}
