"""No secret gets out: not into logs, reports, process titles, manifests or error texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import tcp_redis
from support import Site

pytestmark = pytest.mark.services  # minutes

#: Each in a place of its own, so that a leak tells where it comes from.
REDIS = "pw-of-redis-5e1f"
WRONG = "pw-that-is-wrong-77aa"
TOKEN = "token-of-the-web-api-90cd"
SHOWN = "token-that-the-step-shows-31be"
URL = "pw-in-the-url-of-the-web-api-c4d2"
STORE = "pw-of-the-store-8a6b"
SECRETS = (REDIS, WRONG, TOKEN, SHOWN, URL, STORE)


@pytest.fixture
def guarded(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A site whose Redis asks for a password, with a secret in every setting that can hold one."""
    with tcp_redis(tmp_path / "redis", "--requirepass", REDIS) as port:
        site.redis_url = f"redis://:{REDIS}@127.0.0.1:{port}/0"
        site.extra = {
            "ANYVAR_AUTH_TOKEN_LIST": TOKEN,
            "ANYVAR_STEP_TOKEN": SHOWN,
            "ANYVAR_STEP_URL": f"http://anyvar:{URL}@127.0.0.1:1",
        }
        yield site


def clean(text: str) -> str:
    """The text, in which no secret stands."""
    for secret in SECRETS:
        assert secret not in text
    return text


def clean_site(site: Site) -> None:
    """No log and nothing in the work dir holds one, nor the name of any file."""
    for path in site.folder.rglob("*"):
        clean(str(path))
        if path.is_file():
            clean(path.read_bytes().decode("latin-1"))


def titles() -> str:
    """The command lines of all processes on this host."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode("latin-1"))
    return "\n".join(found)


def run(site: Site, *arguments: object) -> tuple[int, str]:
    done = site.run(*arguments)
    return done.returncode, clean(done.stdout + done.stderr)


def test_a_run_with_all_said_aloud_tells_no_secret(guarded: Site, vcf: Path, tmp_path: Path) -> None:
    report, ticket = tmp_path / "report.json", tmp_path / "ticket"
    with guarded.worker(before=("--debug",)) as worker:
        for loud in ((), ("-v", "-v"), ("--debug",)):
            code, said = run(guarded, *loud, "annotate", vcf, "-o", tmp_path / "o.vcf", "--report", report)
            assert code == 0, said
            clean(report.read_text())
        clean(titles())
        code, said = run(guarded, "--debug", "submit", vcf, "--ticket", ticket)
        assert code == 0, said
        clean(ticket.read_text())
        assert run(guarded, "--debug", "wait", ticket)[0] == 0
        assert any(path.name == "manifest.json" for path in guarded.left_over())
        clean_site(guarded)
        assert run(guarded, "--debug", "check")[0] == 0
        assert run(guarded, "check", "--json")[0] == 0
        assert run(guarded, "--debug", "status", ticket)[0] == 0
        assert worker.poll() is None
    clean_site(guarded)
    for arguments in (("config",), ("config", "--json"), ("--debug", "config")):
        code, said = run(guarded, *arguments)
        assert code == 0
        assert "***" in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CELERY_BROKER_URL", f"redis://:{WRONG}@127.0.0.1:{{port}}/0"),
        ("CELERY_BROKER_URL", f"redis://default:{WRONG}@127.0.0.1:1/0"),
        ("CELERY_BROKER_URL", f"redis://:{WRONG}@no-such-host.invalid/0"),
        ("CELERY_BROKER_URL", f"redis://:{WRONG}@127.0.0.1:not-a-port/0"),
        ("CELERY_BROKER_URL", f"redis://:{WRONG}/with/slashes@127.0.0.1/0"),
        ("CELERY_BROKER_URL", f"redis://[::1:{WRONG}@127.0.0.1/0"),
        ("CELERY_BROKER_URL", f"redis://127.0.0.1:1/0?password={WRONG}"),
        ("CELERY_BROKER_URL", f"amqp://user:{WRONG}@127.0.0.1"),
        ("CELERY_BACKEND_URL", f"redis://:{WRONG}@127.0.0.1:1/0"),
        ("ANYVAR_STORAGE_URI", f"postgresql://anyvar:{STORE}@127.0.0.1:1/vars?connect_timeout=1"),
        ("ANYVAR_STORAGE_URI", f"mysql://anyvar:{STORE}@127.0.0.1:1/vars"),
        ("ANYVAR_STORAGE_URI", f"postgresql://anyvar:{STORE}@127.0.0.1:1:2/vars?sslpassword={STORE}"),
    ],
)
def test_a_setting_that_is_wrong_is_named_without_its_secret(
    guarded: Site, vcf: Path, tmp_path: Path, variable: str, value: str
) -> None:
    port = guarded.redis_url.rpartition(":")[2].partition("/")[0]
    guarded.extra = {**guarded.extra, variable: value.replace("{port}", port)}
    whose = ("worker",) if variable == "ANYVAR_STORAGE_URI" else ("annotate", vcf, "-o", tmp_path / "o.vcf")
    for arguments in (("--debug", "worker"), ("--debug", *whose), ("check",)):
        code, said = run(guarded, *arguments)
        assert code in (69, 77, 78), said
    assert run(guarded, "--debug", "config")[0] in (0, 78)
    clean_site(guarded)


def test_the_web_api_and_its_clients_tell_no_secret(guarded: Site, vcf: Path, tmp_path: Path) -> None:
    with guarded.worker(), guarded.web(before=("--debug",)) as api:
        for token, expected in ((TOKEN, 200), (WRONG, 401)):
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=api.url, headers=headers, timeout=60) as http:
                answer = http.put("/vcf", files={"vcf": vcf.read_bytes()})
                assert answer.status_code == expected
                clean(answer.text + str(answer.headers))
                for path in ("/vcf/x", "/service-info", "/healthz", "/openapi.json", "/vcf/" + "x" * 500):
                    answer = http.get(path)
                    clean(answer.text + str(answer.headers))
        there = api.url.replace("http://", f"http://anyvar:{URL}@")
        guarded.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": ""}
        for token, url, code in ((TOKEN, api.url, 0), (SHOWN, there, 77)):
            guarded.extra |= {"ANYVAR_STEP_TOKEN": token, "ANYVAR_STEP_URL": url}
            for loud in ((), ("--debug",)):
                found, said = run(guarded, *loud, "annotate", vcf, "-o", tmp_path / "o.vcf")
                assert found == code, said
                assert run(guarded, *loud, "check")[0] == code
        clean(titles())
    clean_site(guarded)
