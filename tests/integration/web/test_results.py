"""What becomes of runs behind the web API: nothing is lost where AnyVar's own loses it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest
from support import Site, stored, until, write_vcf
from webclient import ended, finished, folders, put

from anyvar_step.files import remove_tree
from anyvar_step.models import State
from anyvar_step.runs.keys import step_key
from anyvar_step.runs.state import ATTEMPT_SECONDS, RunState
from anyvar_step.runs.sweep import sweep_key
from anyvar_step.settings import load
from anyvar_step.web import run_access
from anyvar_step.web.run_access import Runs

# -- a result stays until it has been had whole ----------------------------------------------------------


def test_a_repeated_get_gives_the_same_result(http: httpx.Client, vcf: Path) -> None:
    path = finished(http, vcf)
    first = http.get(path)
    assert first.status_code == 200
    assert http.get(path).content == first.content


def test_a_download_that_broke_off_is_resumed_with_a_range(
    http: httpx.Client, served: Site, genome: Path, tmp_path: Path
) -> None:
    # Larger than what the sockets' buffers take, so that the server sees that it was not had whole.
    path = finished(http, write_vcf(tmp_path / "big.vcf", genome, records=100_000))
    with http.stream("GET", path) as answer:
        etag, total = answer.headers["etag"], int(answer.headers["content-length"])
        head = next(answer.iter_raw(1 << 16))
    assert total > 5_000_000
    state = RunState(load(served.environ))
    assert not state.deliveries.is_delivered(path.removeprefix("/vcf/"))
    rest = http.get(path, headers={"Range": f"bytes={len(head)}-", "If-Range": etag})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {len(head)}-{total - 1}/{total}"
    until(lambda: state.deliveries.is_delivered(path.removeprefix("/vcf/")))
    assert head + rest.content == http.get(path).content
    state.close()
    other = http.get(path, headers={"Range": f"bytes={len(head)}-", "If-Range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, total)
    http.delete(path)


def test_the_last_bytes_alone_are_no_download(http: httpx.Client, served: Site, vcf: Path) -> None:
    path = finished(http, vcf)
    assert http.get(path, headers={"Range": "bytes=-10"}).status_code == 206
    assert http.head(path).status_code == 200
    with RunState(load(served.environ)) as state:
        assert not state.deliveries.is_delivered(path.removeprefix("/vcf/"))


def test_a_result_that_was_the_answer_to_its_upload_was_had_whole(
    http: httpx.Client, served: Site, vcf: Path
) -> None:
    run_id = put(http, vcf.read_bytes()).headers["location"].removeprefix("/vcf/")
    with RunState(load(served.environ)) as state:
        assert state.deliveries.is_delivered(run_id)
    assert put(http, vcf.read_bytes(), run_id=run_id).status_code == 200, "the id is free again"


def test_an_upload_that_is_refused_takes_no_earlier_result_away(http: httpx.Client, vcf: Path) -> None:
    path = finished(http, vcf)
    first = http.get(path)
    refused = http.put("/vcf", params={"run_id": path.removeprefix("/vcf/")}, files={"other": ("x", b"")})
    assert refused.status_code == 422
    assert http.get(path).content == first.content


def test_a_result_goes_some_time_after_it_was_had_whole(
    http: httpx.Client, served: Site, vcf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, waiting = finished(http, vcf), finished(http, vcf)
    http.get(fetched)
    runs = Runs(load(served.environ))
    runs.tidy()
    assert http.head(fetched).status_code == 200
    monkeypatch.setattr(run_access, "DELIVERED_KEPT", 0.0)
    runs.tidy()
    runs.close()
    assert http.get(fetched).status_code == 404
    assert fetched.removeprefix("/vcf/") not in folders(served)
    assert http.get(waiting).status_code == 200


def test_an_expired_result_is_removed_and_a_queued_run_is_not(site: Site, vcf: Path, settled: None) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        queued = put(http, vcf.read_bytes(), run_async=True, run_id="left-queued")
        assert queued.status_code == 202
        expired = put(http, vcf.read_bytes(), run_async=True, run_id="left-expired")
        assert expired.status_code == 202
    [folder] = site.work_dir.glob("*/left-expired")
    (folder / "input.vcf_outputvcf").write_text("")
    with RunState(load(site.environ)) as state:
        state.forget("left-expired", "")
        state.forget(
            "left-queued", ""
        )  # as where Redis lost it, or it waited for longer than states are kept
        stored(state, "elsewhere", State.SUCCESS, "/another/work/dir/20261123/elsewhere_outputvcf")
        # told by another deployment on the same Redis, and long ago
        state._redis.zadd(step_key("told", ""), {"elsewhere": 1.0})
        state._redis.delete(sweep_key(site.work_dir))  # the web API had its turn as it started
    for path in [*folder.parent.rglob("*"), folder.parent]:
        os.utime(path, (0, time.time() - 8000))
    runs = Runs(load(site.environ))
    runs.tidy()
    runs.close()
    assert folders(site) == ["left-queued"]
    with RunState(load(site.environ)) as state:
        assert state.meta("elsewhere") is not None
        state.forget("elsewhere", "")


# -- cancel ----------------------------------------------------------------------------------------------


def test_delete_cancels_a_queued_run_and_its_id_is_not_given_again(site: Site, vcf: Path) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        path = put(http, vcf.read_bytes(), run_async=True, run_id="doomed").headers["location"]
        assert http.delete(path).status_code == 204
        assert site.left_over() == []
        answer = http.get(path)
        assert (answer.status_code, answer.json()["error_code"]) == (500, "RUN_CANCELLED")
        assert put(http, vcf.read_bytes(), run_async=True, run_id="doomed").status_code == 400
        with site.worker():  # which must not run it after all
            assert put(http, vcf.read_bytes()).status_code == 200
        assert http.get(path).json()["error_code"] == "RUN_CANCELLED"


def test_delete_drops_a_finished_run(http: httpx.Client, served: Site, vcf: Path) -> None:
    path = finished(http, vcf)
    assert http.delete(path).status_code == 204
    assert http.get(path).status_code == 404
    assert http.delete(path).status_code == 404
    assert path.removeprefix("/vcf/") not in folders(served)


def test_a_client_that_hangs_up_cancels_its_synchronous_run(site: Site, vcf: Path) -> None:
    with site.web() as api:
        with pytest.raises(httpx.ReadTimeout):
            httpx.put(f"{api.url}/vcf", files={"vcf": vcf.read_bytes()}, timeout=1)
        until(lambda: site.left_over() == [], 100, "an empty work dir")


def test_a_web_api_killed_before_it_queued_a_run_is_made_good_by_the_next_look(site: Site, vcf: Path) -> None:
    with site.web() as api, httpx.Client(base_url=api.url, timeout=60) as client:
        content = vcf.read_bytes()
        for run_id in ("queued-never", "staged-never"):
            assert put(client, content, run_async=True, run_id=run_id).status_code == 202
        with RunState(load(site.environ)) as state:
            state._redis.delete(site.queue)
            for run_id in ("queued-never", "staged-never"):  # as they stand a minute after it was killed
                state._redis.set(step_key("published", run_id), "0", ex=ATTEMPT_SECONDS - 60)
        [folder] = site.work_dir.glob("*/staged-never")
        remove_tree(folder)
        assert client.get("/vcf/staged-never").status_code == 202
        assert client.get("/vcf/staged-never").status_code == 404
        assert client.get("/vcf/queued-never").status_code == 202
        with site.worker():
            answer = ended(client, "/vcf/queued-never")
    assert answer.status_code == 200
    assert answer.text.count("VRS_Allele_IDs=ga4gh:VA.") == 200
