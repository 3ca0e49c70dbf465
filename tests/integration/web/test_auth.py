"""Who is let in by the web API: listed tokens and JWTs of a local issuer, as AnyVar lets them in."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import ROOT, Site

jwt = pytest.importorskip("jwt", reason="comes with the web extra")
rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa", reason="comes with the web extra")

ISSUER = "https://issuer.example/v2.0"


@dataclass
class Issuer:
    """A local OpenID Connect issuer: keys, an address that publishes them, and tokens."""

    keys: dict[str, Any] = field(default_factory=dict)
    asked: int = 0
    url: str = ""

    def new_key(self, kid: str) -> None:
        self.keys[kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def published(self) -> bytes:
        algorithm = jwt.algorithms.RSAAlgorithm
        keys = [
            {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "alg": "RS256", "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return json.dumps({"keys": keys}).encode()

    def token(self, kid: str = "first", algorithm: str = "RS256", key: Any = None, **changed: Any) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {"iss": ISSUER, "sub": "worker", "iat": now, "exp": now + 600, **changed}
        claims = {name: value for name, value in claims.items() if value is not None}
        return str(jwt.encode(claims, key or self.keys[kid], algorithm=algorithm, headers={"kid": kid}))


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.new_key("first")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(issuer.published())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_port}/keys"
    yield issuer
    server.shutdown()
    server.server_close()
    thread.join()


def configured(issuer: Issuer, **claims: str) -> dict[str, str]:
    return {"ANYVAR_AUTH_ISSUER_URL": ISSUER, "ANYVAR_AUTH_JWKS_URI": issuer.url, **claims}


def status(http: httpx.Client, token: str) -> int:
    return http.get("/vcf/none", headers={"Authorization": f"Bearer {token}"}).status_code


NOW = int(time.time())
#: Claims of a token, what is configured, and whether AnyVar lets it in.
CASES: list[tuple[dict[str, Any], dict[str, str], bool]] = [
    ({}, {}, True),
    ({"iss": "https://other.example"}, {}, False),
    ({"exp": NOW - 3600}, {}, False),
    ({"nbf": NOW + 3600}, {}, False),
    ({"sub": None}, {}, False),
    ({"exp": None}, {}, False),
    ({"aud": "a"}, {"ANYVAR_AUTH_AUDIENCES": "a, b"}, True),
    ({"aud": ["x", "b"]}, {"ANYVAR_AUTH_AUDIENCES": "a,b"}, True),
    ({"aud": "x"}, {"ANYVAR_AUTH_AUDIENCES": "a"}, False),
    ({}, {"ANYVAR_AUTH_AUDIENCES": "a"}, False),
    ({"aud": "whatever"}, {}, True),
    ({"appid": "app"}, {"ANYVAR_AUTH_APPIDS": "app"}, True),
    ({"appid": "other"}, {"ANYVAR_AUTH_APPIDS": "app"}, False),
    ({"scope": "read write"}, {"ANYVAR_AUTH_SCOPES": "write"}, True),
    ({"scope": ["write"]}, {"ANYVAR_AUTH_SCOPES": "write"}, True),
    ({"scope": "writer"}, {"ANYVAR_AUTH_SCOPES": "write"}, False),
    ({"email": "Ada@Lab.example"}, {"ANYVAR_AUTH_EMAILS": "ada@lab.EXAMPLE"}, True),
    ({"email": "eve@lab.example"}, {"ANYVAR_AUTH_EMAILS": "ada@lab.example"}, False),
    ({"sub": "worker"}, {"ANYVAR_AUTH_SUBJECTS": "worker"}, True),
    ({"sub": "eve"}, {"ANYVAR_AUTH_SUBJECTS": "worker"}, False),
    (
        {"aud": "a", "scope": "x"},
        {"ANYVAR_AUTH_AUDIENCES": "a", "ANYVAR_AUTH_SCOPES": "y"},
        False,
    ),
]


@pytest.mark.parametrize(("claims", "configuration", "let_in"), CASES, ids=range(len(CASES)))
def test_a_jwt_is_let_in_if_it_passes_each_configured_check(
    issuer: Issuer, claims: dict[str, Any], configuration: dict[str, str], let_in: bool
) -> None:
    from anyvar_step.settings import load
    from anyvar_step.web.auth import JwtChecker

    checker = JwtChecker(load(configured(issuer, **configuration)))
    assert checker.accepts(issuer.token(**claims)) is let_in


ANYVARS = """
import json, os, sys
from anyvar.restapi.auth import BearerTokenAuthConfig, ValidTokenCache, is_jwt_token_valid
answers = []
for configuration, token in json.load(sys.stdin):
    for name in [name for name in os.environ if name.startswith("ANYVAR_AUTH_")]:
        del os.environ[name]
    os.environ.update(configuration)
    answers.append(is_jwt_token_valid(BearerTokenAuthConfig.from_env(), token, ValidTokenCache()))
print(json.dumps(answers))
"""


@pytest.mark.services
def test_anyvar_lets_in_the_same_ones(issuer: Issuer) -> None:
    python = Path(os.environ.get("ANYVAR_STEP_ANYVAR_PYTHON", ROOT / ".venv-anyvar" / "bin" / "python"))
    questions = [
        (configured(issuer, **configuration), issuer.token(**claims)) for claims, configuration, _ in CASES
    ]
    done = subprocess.run(
        [python, "-c", ANYVARS], input=json.dumps(questions), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [let_in for *_, let_in in CASES]


def test_the_web_api_asks_for_a_jwt_and_takes_listed_tokens_beside(issuer: Issuer, site: Site) -> None:
    listed = {"ANYVAR_AUTH_TOKEN_LIST": "a-token-of-the-list"}
    with site.web(**configured(issuer), **listed) as api, httpx.Client(base_url=api.url) as http:
        assert http.get("/vcf/none").status_code == 401
        assert status(http, "a-token-of-the-list") == 404
        assert status(http, issuer.token()) == 404
        unsigned = jwt.encode({"iss": ISSUER, "sub": "x", "iat": NOW, "exp": NOW + 600}, "", algorithm="none")
        assert status(http, unsigned) == 401
        forged = issuer.token(algorithm="HS256", key=b"guessed-secret-guessed-secret-32")
        assert status(http, forged) == 401
        for odd in ("x", "a.b.c", "\u00e4", "x" * 9000):
            answer = http.get("/vcf/none", headers={"Authorization": f"Bearer {odd}".encode("latin-1")})
            assert answer.status_code == 401


def test_a_new_key_of_the_issuer_is_found_and_unknown_ones_do_not_flood_it(issuer: Issuer) -> None:
    from anyvar_step.settings import load
    from anyvar_step.web.auth import JwtChecker

    checker = JwtChecker(load(configured(issuer)))
    assert checker.accepts(issuer.token())
    issuer.new_key("second")
    assert checker.accepts(issuer.token("second"))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    asked = issuer.asked
    for number in range(20):
        assert not checker.accepts(issuer.token(f"unknown-{number}", key=other))
    assert issuer.asked - asked <= 1


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ANYVAR_AUTH_ISSUER_URL": ISSUER}, "ANYVAR_AUTH_JWKS_URI"),
        ({"ANYVAR_AUTH_JWKS_URI": "https://issuer.example/keys"}, "ANYVAR_AUTH_ISSUER_URL"),
        ({"ANYVAR_AUTH_SCOPES": "write"}, "no issuer"),
        ({"ANYVAR_AUTH_TENANT": "x"}, "ANYVAR_AUTH_TENANT"),
        ({"ANYVAR_AUTH_TOKEN_LIST": "short"}, "fewer than 16 characters"),
    ],
)
def test_what_would_leave_the_door_open_is_a_configuration_error(
    site: Site, environ: dict[str, str], said: str
) -> None:
    site.extra = environ
    done = site.run("serve", "--port", "0")
    assert done.returncode == 78
    assert said in done.stderr
    assert "short" not in done.stderr.replace("shorter", "")
