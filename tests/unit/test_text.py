"""Messages on their way out: harmless on a terminal, and without secrets, whatever is wrong with these."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as tuned
from hypothesis import strategies as st

from anyvar_step import settings, text
from anyvar_step.errors import ConfigurationError

#: Parts of secrets: none of them is a part of any message of ours.
WORDS = st.sampled_from(["Zq7x", "vK9w", "gehÄim", "秘密秘密", "J4jj"])
#: What people and generators of passwords put between them, unquoted.
BETWEEN = st.sampled_from(
    ["", ":", "/", "?", "#", "@", ";", "%", "%2", "[", "]", " ", "\n", "\t", "\\", "&", "="]
)
SECRETS = st.tuples(WORDS, BETWEEN, WORDS, BETWEEN, WORDS).map("".join)
#: Where a URL may hold one.
URLS = st.sampled_from(
    [
        "{scheme}://:{secret}@host:6379/0",
        "{scheme}://user:{secret}@host/0",
        "{scheme}://{secret}@host/0",
        "{scheme}://user:{secret}@host:port/0",
        "{scheme}://user:{secret}@/path",
        "{scheme}://host/db?password={secret}",
        "{scheme}://host/0?token={secret}&x=1",
        "{scheme}://user:{secret}",
        "{scheme}://one:1/0;{scheme}://:{secret}@two:2/0",
        "{scheme}:/user:{secret}@host",
        "{secret}@host:6379",
        "{secret}",
    ]
)
SCHEMES = st.sampled_from(
    ["redis", "rediss", "sentinel", "redis+socket", "amqp", "http", "https", "postgresql"]
)
URL_VARIABLES = ["CELERY_BROKER_URL", "CELERY_BACKEND_URL", "ANYVAR_STEP_URL", "ANYVAR_STORAGE_URI"]


def leaked(secret: str, message: str) -> list[str]:
    """The parts of the secret that the message shows."""
    return [
        word for word in ("Zq7x", "vK9w", "gehÄim", "秘密秘密", "J4jj") if word in secret and word in message
    ]


def shown_by(environ: dict[str, str]) -> str:
    """All that is said of these settings: the error, or their values as ``config`` and messages show them."""
    try:
        found = settings.load(environ)
    except ConfigurationError as error:
        return f"{error} {error.what}"
    urls = (found.broker_url, found.backend_url, found.url or "", found.storage_uri)
    return " ".join(
        [*(settings.shown(found, name) for name in found.model_fields_set), *map(settings.masked, urls)]
    )


@pytest.mark.parametrize("variable", URL_VARIABLES)
@tuned(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=URLS, scheme=SCHEMES, secret=SECRETS)
@example(form="{scheme}://host/db?password={secret}", scheme="redis", secret="Zq7x&Zq7x=Zq7x")
def test_no_message_shows_a_password_of_a_url(variable: str, form: str, scheme: str, secret: str) -> None:
    if "://{secret}@" in form:
        secret = secret.replace(":", "")  # what stands before a colon is the name of a user
    if "@" not in form:
        secret = secret.replace("@", "")  # what stands behind the last @ is a host
    url = form.format(scheme=scheme, secret=secret)
    assert leaked(secret, shown_by({variable: url})) == []
    assert leaked(secret, settings.masked(url)) == []


@pytest.mark.parametrize("variable", ["ANYVAR_STEP_TOKEN", "ANYVAR_AUTH_TOKEN_LIST", *URL_VARIABLES])
@tuned(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS)
def test_no_message_shows_a_token_in_a_variable_or_file(variable: str, secret: str, tmp_path: Path) -> None:
    assert leaked(secret, shown_by({variable: secret})) == []
    file = tmp_path / "secret"
    file.write_text(secret, encoding="utf-8")
    assert leaked(secret, shown_by({f"{variable}_FILE": str(file)})) == []


@pytest.mark.parametrize(
    ("token", "why"),
    [("abc\ndef", "several lines"), ("abc def", "one word"), ("gehéim", "ASCII"), ("a\x1bb", "one word")],
)
@pytest.mark.parametrize("variable", ["ANYVAR_STEP_TOKEN", "ANYVAR_AUTH_TOKEN_LIST"])
def test_a_token_that_no_header_can_hold_is_refused(
    variable: str, token: str, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(token, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=why) as refused:
        settings.load({f"{variable}_FILE": str(file)})
    assert variable in str(refused.value)
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://host:6379/0?foo=1", "unknown option after ?"),
        ("redis://host:6379/0?socket_timeout=abc", "unknown option after ?"),
        ("redis://host:6379/abc", "no number of a database"),
        ("redis://host:6379/1/2", "no number of a database"),
        ("redis://host:99999/0", "port up to 65535"),
        ("redis://host:63x79/0", "the host or port is none"),
        ("redis://:pass#word@host/0", "special characters"),
        ("redis://host/0#1", "no #"),
        ("redis:/host", "use a redis://"),
        ("host:6379", "use a redis://"),
        ("sentinel://a:26379;redis://b:x/0", "the host or port is none"),
    ],
)
def test_what_is_wrong_with_a_url_of_redis_is_said(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings.load({"CELERY_BROKER_URL": url})
    assert why in str(refused.value)
    assert str(refused.value).startswith("CELERY_BROKER_URL=")
    assert "pass" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%40ss@[::1]:6379/",
        "rediss://h:1/3?ssl_ca_certs=/x.pem&ssl_cert_reqs=required",
        "redis+socket:///tmp/x.sock?virtual_host=0",
        "sentinel://a:26379;sentinel://b:26379/0?master_name=main",
    ],
)
def test_urls_that_celery_and_redis_take_are_taken(url: str) -> None:
    assert settings.load({"CELERY_BROKER_URL": url}).backend_url == url


@given(st.text())
def test_escaped_text_has_nothing_that_a_terminal_obeys(anything: str) -> None:
    shown = text.escaped(anything)
    assert {unicodedata.category(each) for each in shown} & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert not {"\u202e", "\u2066", "\u200f", "\u061c"} & set(shown)
    assert text.escaped(shown) == shown
    shown.encode("utf-8")


def test_text_is_escaped_as_people_know_it() -> None:
    assert text.escaped("lat\udce9n.vcf") == r"lat\xe9n.vcf"
    assert text.escaped("\x1b[31mred\x9b\r\n\u202e") == r"\x1b[31mred\x9b\r\n\u202e"
    assert text.escaped("Käse 秘密 a\\b") == "Käse 秘密 a\\b"
    assert text.escaped_bytes(b"chr\x1b1\t\xe9\tK\xc3\xa4se") == b"chr\\x1b1\t\\xe9\tK\xc3\xa4se"


def test_a_secret_that_a_library_puts_into_a_message_is_replaced() -> None:
    settings.load({"ANYVAR_STEP_TOKEN": "Tr0ub4dor-and-3"})
    assert (
        text.printable("Illegal header value b'Bearer Tr0ub4dor-and-3'")
        == "Illegal header value b'Bearer ***'"
    )
    settings.load({"ANYVAR_STORAGE_URI": "postgresql://anyvar:anyvar@h/anyvar"})
    assert text.printable("anyvar-step: no anyvar") == "anyvar-step: no anyvar"
