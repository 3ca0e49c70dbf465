"""AnyVar's asynchronous registration of variations, through our web API to a worker that serves it."""

from __future__ import annotations

import json

import httpx
import pytest
import redis
from support import Site, until

from anyvar_step.runs.keys import REGISTER_VARIATIONS, meta_key

VARIATIONS = [{"definition": "NC_000007.14:g.55181320A>T", "assembly_name": "GRCh38"}] * 250


def finish(client: redis.Redis, run_id: str, status: str, result: object) -> None:
    """Store what a worker of AnyVar's stores."""
    meta = {"status": status, "result": result, "traceback": None, "children": [], "task_id": run_id}
    client.set(meta_key(run_id), json.dumps(meta))


def test_a_list_of_variations_is_queued_for_a_worker_of_anyvars_and_its_result_answered_once(
    site: Site, client: redis.Redis
) -> None:
    with site.web() as api, httpx.Client(base_url=api.url, timeout=60) as http:
        answer = http.put("/variations?run_async=true&run_id=my run/1", json=VARIATIONS)
        assert answer.status_code == 202
        assert answer.headers["retry-after"] == "2"
        assert answer.headers["location"] == "/variations/my run/1"
        assert answer.json() == {
            "run_id": "my run/1",
            "status": "PENDING",
            "status_message": "Run submitted. Check status at /variations/my run/1",
        }
        message = json.loads(client.lindex(site.queue, 0) or b"")
        assert (message["headers"]["task"], message["headers"]["id"]) == (REGISTER_VARIATIONS, "my run/1")
        waiting = http.get("/variations/my run/1")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (202, "2")
        taken = http.put("/variations?run_async=true&run_id=my run/1", json=VARIATIONS)
        assert (taken.status_code, [*taken.json()]) == (400, ["error"])
        finish(client, "my run/1", "SUCCESS", [{"object_id": "ga4gh:VA.x"}])
        done = http.get("/variations/my run/1")
        assert (done.status_code, done.json()) == (200, [{"object_id": "ga4gh:VA.x"}])
        assert http.get("/variations/my run/1").status_code == 404


def test_a_failed_registration_is_answered_with_the_configured_code(site: Site, client: redis.Redis) -> None:
    code = {"ANYVAR_VARIATIONS_ASYNC_FAILURE_STATUS_CODE": "417"}
    with site.web(**code) as api, httpx.Client(base_url=api.url, timeout=60) as http:
        run_id = http.put("/variations?run_async=true", json=VARIATIONS).json()["run_id"]
        failed = {"exc_type": "WorkerLostError", "exc_message": ["killed"], "exc_module": "billiard"}
        finish(client, run_id, "FAILURE", failed)
        answer = http.get(f"/variations/{run_id}")
        assert answer.status_code == 417
        assert answer.json() == {"error": "killed", "error_code": "WORKER_LOST_ERROR"}


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("", b"[]", 400),
        ("run_async=true", b"{}", 422),
        ("run_async=true", b"[1]", 422),
        ("run_async=true", b'[{"assembly_name": "GRCh38"}]', 422),
        ("run_async=true", b"[" * 10_000, 422),
        ("run_async=true&run_id=a%00b", b"[]", 400),
        ("run_async=true", b"[" + b" " * (16 << 20) + b"]", 413),
    ],
)
def test_what_is_no_list_of_variations_is_refused(
    site: Site, client: redis.Redis, query: str, body: bytes, code: int
) -> None:
    with site.web() as api, httpx.Client(base_url=api.url, timeout=60) as http:
        assert http.put(f"/variations?{query}", content=body).status_code == code
        assert client.llen(site.queue) == 0


def test_a_task_that_nobody_serves_fails_with_a_reason(site: Site) -> None:
    with site.web() as api, httpx.Client(base_url=api.url, timeout=60) as http, site.worker():
        where = http.put("/variations?run_async=true", json=VARIATIONS[:1]).headers["location"]
        until(lambda: http.get(where).status_code != 202, 100, "the failure")
