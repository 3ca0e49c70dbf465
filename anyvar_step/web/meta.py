"""/healthz for probes and /service-info for GA4GH registries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anyio
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.broker.connection import ping
from anyvar_step.errors import StepError
from anyvar_step.settings import Settings
from anyvar_step.web.runs import Runs

router = APIRouter()

#: Seconds for which an answer of the workers is good, and for which the first one is waited for.
WORKERS_FOR, FIRST_ANSWER = 10.0, 5.0


class Health:
    """Looks at what the web API needs; says no more than ok or unavailable, since anybody may ask."""

    def __init__(self, settings: Settings, runs: Runs) -> None:
        self._settings = settings
        self._runs = runs
        self._lock = threading.Lock()
        self._asking: Future[int] | None = None
        self._asked = float("-inf")
        self._processes: int | None = None
        self._pool = ThreadPoolExecutor(1, "workers")
        # Threads of its own: a probe must be answered while all others wait for a slow disk.
        self.limiter = anyio.CapacityLimiter(4)

    def close(self) -> None:
        """End its thread."""
        self._pool.shutdown(cancel_futures=True)

    def look(self) -> dict[str, str | int]:
        """Each part's state, and the number of worker processes."""
        parts = {
            "broker": _works(lambda: ping(self._settings.broker_url, "CELERY_BROKER_URL")),
            "backend": _works(lambda: ping(self._settings.backend_url, "CELERY_BACKEND_URL")),
            "work_dir": _works(self._runs.workdir.check),
        }
        whole = all(parts.values())
        processes = self._workers() if whole else 0
        parts["workers"] = processes > 0
        shown = {name: "ok" if works else "unavailable" for name, works in parts.items()}
        return {"status": "ok" if whole else "unavailable", **shown, "processes": processes}

    def _workers(self) -> int:
        """Worker processes as of the last time they were asked, in a thread: it takes them two seconds."""
        with self._lock:
            if self._asking is None and time.monotonic() - self._asked > WORKERS_FOR:
                self._asking = self._pool.submit(self._runs.capacity)
            if self._asking and (self._processes is None or self._asking.done()):
                try:
                    self._processes = self._asking.result(timeout=FIRST_ANSWER)
                except (StepError, TimeoutError):
                    self._processes = 0
                self._asking, self._asked = None, time.monotonic()
            return self._processes or 0


def _works(look: Callable[[], None]) -> bool:
    try:
        look()
    except StepError:
        return False
    return True


@router.get("/healthz", summary="Whether broker, backend and work dir are there", response_model=None)
async def healthz(request: Request) -> JSONResponse:
    """200, or 503 where one of them is not; without workers runs wait in the queue, which is no failure."""
    health: Health = request.app.state.health
    found = await anyio.to_thread.run_sync(health.look, limiter=health.limiter)
    if found["status"] == "ok":
        return JSONResponse(found)
    return JSONResponse(found, 503, headers={"Retry-After": "5"})


@router.get("/service-info", summary="GA4GH service info")
async def service_info() -> dict[str, Any]:
    """What serves here, in the form of the GA4GH Service Info specification 1.0.0, as AnyVar has it."""
    home = "https://github.com/biocommons/anyvar"
    return {
        "id": "org.biocommons.anyvar.step",
        "name": "anyvar-step",
        "type": {"group": "org.biocommons", "artifact": "anyvar", "version": __version__},
        "description": "AnyVar's VCF endpoints: annotate VCFs with GA4GH VRS identifiers.",
        "organization": {"name": "biocommons", "url": "https://biocommons.org"},
        "documentationUrl": home,
        "version": __version__,
        "spec_metadata": {"vrs_version": VRS_VERSION},
        "impl_metadata": {"anyvar_step_version": __version__},
    }
