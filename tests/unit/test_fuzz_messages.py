"""Messages, answers and settings changed at random: each is understood or refused in a line."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from fuzzing import CASES, SEED, deadline, fuzz, mutated, mutated_json
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from anyvar_step.client.http import HttpTransport, retry_after
from anyvar_step.client.transport import error_of
from anyvar_step.errors import StepError
from anyvar_step.models import AnnotateOptions, IngestOptions, RunRequest
from anyvar_step.runs.connection import connect
from anyvar_step.runs.keys import meta_key
from anyvar_step.runs.state import RunState, run_status
from anyvar_step.runs.sweep import Liveness
from anyvar_step.runs.work_dir import WorkDir
from anyvar_step.settings import LONGEST_POLL, Settings, load, shown
from anyvar_step.web import responses, routes
from anyvar_step.web.app import create
from anyvar_step.worker.tasks import parse_arguments

TASK = {
    "input_file_path": "/work/20261123/run-1/input.vcf",
    "assembly": "GRCh38",
    "for_ref": True,
    "allow_async_write": False,
    "add_vrs_attributes": False,
}
METAS = (
    {"status": "SUCCESS", "result": "/work/20261123/run-1/out.vcf", "traceback": None, "children": []},
    {"status": "PROGRESS", "result": {"records": 5, "fraction": 0.5, "seconds": 1.0, "worker": "h:1"}},
    {"status": "FAILURE", "result": {"exc_type": "InvalidInput", "exc_message": ["bad"], "exc_module": "x"}},
    {"status": "REVOKED", "result": None},
)
ANSWERS = (
    {"run_id": "run-1", "status": "PENDING", "status_message": "…", "state": "PROGRESS", "progress": {}},
    {"run_id": "run-1", "status": "SUCCESS", "status_message": "Run completed"},
    {"run_id": "run-1", "status": "NOT_FOUND", "status_message": "Run not found"},
    {"error": "it failed", "error_code": "RUN_FAILURE", "error_class": "InvalidInput"},
    {"status": "ok", "workers": "ok", "processes": 4},
)

TOKEN = "a-token-of-the-list"
BEARER = f"Bearer {TOKEN}".encode()


def message(draw: random.Random) -> bytes:
    """One of kombu's messages with another body, other headers, or in a worker's hands."""
    arguments = (
        mutated_json(draw, [[], TASK, {}]) if draw.random() < 0.7 else json.dumps([[], TASK, {}]).encode()
    )
    outer = {"body": base64.b64encode(arguments).decode(), "headers": {"id": "run-1"}, "properties": {}}
    whole = [outer, "", "queue"] if draw.random() < 0.3 else outer
    return mutated_json(draw, whole) if draw.random() < 0.7 else json.dumps(whole).encode()


def test_changed_messages_on_the_broker_hide_no_other_run(redis_url: str) -> None:
    place = Settings(broker_url=redis_url, backend_url=redis_url, task_default_queue=f"fuzz-{SEED}")
    right = json.dumps({"body": "", "headers": {"id": "the-right-one"}}).encode()

    def case(draw: random.Random) -> None:
        with Liveness(place) as liveness, connect(redis_url) as redis:
            redis.rpush(place.task_default_queue, message(draw), mutated(draw, message(draw)), right)
            assert liveness.has_message("the-right-one")
            redis.delete(place.task_default_queue)

    assert fuzz("message", case) == CASES


def test_a_changed_state_is_a_status_or_a_lost_run(redis_url: str) -> None:
    place = Settings(broker_url=redis_url, backend_url=redis_url)

    def case(draw: random.Random) -> None:
        with RunState(place) as state, connect(redis_url) as redis:
            redis.set(meta_key("fuzz"), mutated_json(draw, draw.choice(METAS)))
            status = run_status("fuzz", state.meta("fuzz"), 500)
            assert run_status("fuzz", state.meta_and_lock("fuzz")[0], 500) == status
            if status.error_code:
                assert str(error_of(status))

    assert fuzz("state", case) > 0


@pytest.mark.parametrize("kind", [AnnotateOptions, IngestOptions])
def test_a_task_with_changed_arguments_is_done_as_asked_or_refused(
    kind: type[AnnotateOptions] | type[IngestOptions], tmp_path: Path
) -> None:
    workdir = WorkDir(tmp_path, latency_wait=0.0)
    right = {**kind().model_dump(), "path": str(tmp_path / "20261123" / "run-1" / "input.vcf")}

    def case(draw: random.Random) -> None:
        try:
            arguments = json.loads(mutated_json(draw, right))
            path, options = arguments.pop("path"), dict(arguments)
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return  # Celery itself refuses it
        where, _ = parse_arguments(kind, path, **options)
        assert workdir.contained(where).is_relative_to(tmp_path)

    assert fuzz(f"task-{kind.__name__}", case) > 0


def test_changed_answers_of_a_web_api_are_understood_or_refused(tmp_path: Path) -> None:
    headers = ("retry-after", "content-type", "location", "content-length", "content-range", "etag", "allow")
    values = (
        "nan",
        "-1",
        "inf",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "x" * 300,
        "text/plain",
        "bytes 0-1/0",
        "\xff",
    )

    def case(draw: random.Random) -> None:
        def answer(_: httpx.Request) -> httpx.Response:
            body = mutated_json(draw, draw.choice(ANSWERS))
            more = (
                {draw.choice(headers): draw.choice(values).encode("latin-1")} if draw.random() < 0.3 else {}
            )
            code = draw.choice((200, 202, 204, 206, 301, 400, 401, 404, 405, 413, 429, 500, 503))
            sent = {"content-type": "application/json", **more}
            return httpx.Response(code, headers=sent, stream=httpx.ByteStream(body))

        transport._polls.clear()
        mock = httpx.Client(base_url="http://web.example/", transport=httpx.MockTransport(answer))
        with mock as transport._client._http, (tmp_path / "in.vcf").open("rb") as source:
            request = RunRequest(options=AnnotateOptions(), run_id=draw.choice((None, "run-1")))
            ticket = transport.find("run-1")
            acts = (
                lambda: transport.status("run-1"),
                transport.worker_processes,
                lambda: transport.cancel(ticket),
                lambda: transport.forget(ticket),
                lambda: transport._report("run-1"),
                lambda: transport.submit(source, "in.vcf", request),
                lambda: 0.0 <= retry_after(answer(httpx.Request("GET", "/"))) <= LONGEST_POLL or 1 / 0,
            )
            draw.choice(acts)()

    # One for all: a client's certificates take 60 ms to load.
    transport = HttpTransport("http://web.example", folder=tmp_path, outage=-1.0)
    (tmp_path / "in.vcf").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    try:
        assert fuzz("answer", case) > 0
    finally:
        transport.close()


def test_a_changed_request_gets_an_answer(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No 5xx but 503, from the whole application as uvicorn would call it."""
    monkeypatch.setattr(responses, "DRAIN_SECONDS", 0.001)  # there is no upload on its way
    monkeypatch.setattr(routes, "LONGEST_WAIT", 0.001)  # no worker is there to wait for
    place = Settings(broker_url=redis_url, backend_url=redis_url, work_dir=tmp_path, auth_tokens=(TOKEN,))
    # 418 is the answer of a run that failed or was cancelled.
    place = place.model_copy(update={"task_default_queue": f"fuzz-web-{SEED}", "failure_status_code": 418})
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="vcf"; filename="in.vcf"\r\n\r\n'
        b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t1\t.\tA\tC\t.\t.\t.\n\r\n--edge--\r\n"
    )
    words = (b"--edge", b"filename*=UTF-8''%ff", b"Content-Transfer-Encoding: base64\r\n", b"\x1f\x8b", b"--")

    async def case(draw: random.Random, client: httpx.AsyncClient) -> None:
        query = mutated(draw, b"run_id=r1&assembly=GRCh38&compress_level=6") + b"&run_async=true"
        path = draw.choice(("vcf", "annotated_vcf", "vcf/r1", "vcf/r1/report", "healthz", "vcf/%2e%2e%2fx"))
        if draw.random() < 0.3:
            path = quote(mutated(draw, path.encode()), safe="/%")
        kind = b"multipart/form-data; boundary=edge"
        sent = {
            b"authorization": f"Bearer {TOKEN}".encode()
            if draw.random() < 0.9
            else mutated(draw, f"Bearer {TOKEN}".encode()),
            b"content-type": kind if draw.random() < 0.8 else mutated(draw, kind),
            b"prefer": mutated(draw, b"wait=0"),
            b"range": mutated(draw, b"bytes=0-5"),
        }
        method = draw.choice(("PUT", "PUT", "PUT", "GET", "HEAD", "DELETE", "POST"))
        url = httpx.URL("http://web.example/").copy_with(
            raw_path=f"/{path}?{quote(query, safe='=&%+')}".encode()
        )
        answer = await client.request(method, url, headers=sent, content=mutated(draw, body, words))
        assert answer.status_code < 500 or answer.status_code == 503, answer.text

    async def cases() -> None:
        app = create(place)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            for number in range(CASES):
                name = f"{SEED}/request/{number}"
                try:
                    with deadline():
                        await case(random.Random(name), client)
                except Exception as error:
                    raise AssertionError(f"random.Random({name!r}) ended in {error!r:.500}") from error
        app.state.health.close()
        app.state.runs.close()

    asyncio.run(cases())


texts = st.one_of(
    st.text(max_size=40).map(lambda text: text.replace("\0", "")),
    st.sampled_from(
        ["nan", "inf", "-1", "9" * 5000, "Europe", "../..", "0o777", "yes", "1e400", "=", ",", "x=y"]
    ),
    st.builds(
        lambda scheme, rest: f"{scheme}://{rest}",
        st.sampled_from(["redis", "rediss", "redis+socket", "http", "https", "postgresql", "duckdb", ""]),
        st.text("abc:@/?[]#=&%0123.é ", max_size=30),
    ),
)
environments = st.dictionaries(
    st.sampled_from(
        [str(field.alias) + end for field in Settings.model_fields.values() for end in ("", "_FILE")]
    ),
    texts,
    max_size=4,
)


@seed(SEED)
@settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(environments)
def test_any_environment_makes_settings_that_can_be_used_or_a_configuration_error(
    environment: dict[str, str],
) -> None:
    with deadline(), contextlib.suppress(StepError):
        found = load(environment)
        for name in Settings.model_fields:
            shown(found, name)
        connect(found.backend_url).close()
        connect(found.broker_url).close()
        if found.url is not None:
            HttpTransport(found.url, found.token).close()
