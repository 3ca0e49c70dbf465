"""Settings mean what they say: names, defaults, origins, cross-checks, the Celery setting each reaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyvar_step import settings
from anyvar_step.errors import ConfigurationError
from anyvar_step.runs.queue import celery_config

#: docs/contract.md#environment and AnyVar's documentation.
DEFAULTS = {
    "ANYVAR_VCF_ASYNC_WORK_DIR": None,
    "ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE": 500,
    "CELERY_BROKER_URL": "redis://localhost:6379/0",
    "CELERY_BACKEND_URL": "redis://localhost:6379/0",
    "CELERY_TASK_DEFAULT_QUEUE": "anyvar_q",
    "CELERY_EVENT_QUEUE_PREFIX": "anyvar_ev",
    "CELERY_TIMEZONE": "UTC",
    "CELERY_RESULT_EXPIRES": 7200,
    "CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT": 7200,
    "CELERY_TASK_ACKS_LATE": True,
    "CELERY_TASK_REJECT_ON_WORKER_LOST": False,
    "CELERY_WORKER_PREFETCH_MULTIPLIER": 1,
    "CELERY_TASK_TIME_LIMIT": 3900,
    "CELERY_SOFT_TIME_LIMIT": 3600,
    "CELERY_WORKER_SEND_TASK_EVENTS": False,
}


def test_every_documented_variable_has_its_documented_default() -> None:
    fields = {field.alias: field.default for field in settings.Settings.model_fields.values()}
    assert {name: fields[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("CELERY_BROKER_URL", "redis://h/1", "broker_url", "redis://h/1"),
        ("CELERY_BACKEND_URL", "redis://h/2", "result_backend", "redis://h/2"),
        ("CELERY_TASK_DEFAULT_QUEUE", "mine", "task_default_queue", "mine"),
        ("CELERY_EVENT_QUEUE_PREFIX", "ev", "event_queue_prefix", "ev"),
        ("CELERY_TIMEZONE", "Europe/Berlin", "timezone", "Europe/Berlin"),
        ("CELERY_RESULT_EXPIRES", "90", "result_expires", 90),
        ("CELERY_TASK_ACKS_LATE", "No", "task_acks_late", False),
        ("CELERY_TASK_REJECT_ON_WORKER_LOST", "YES", "task_reject_on_worker_lost", True),
        ("CELERY_WORKER_PREFETCH_MULTIPLIER", "4", "worker_prefetch_multiplier", 4),
        ("CELERY_TASK_TIME_LIMIT", "4000", "task_time_limit", 4000),
        ("CELERY_SOFT_TIME_LIMIT", "10", "task_soft_time_limit", 10),
        ("CELERY_WORKER_SEND_TASK_EVENTS", "1", "worker_send_task_events", True),
    ],
)
def test_a_variable_reaches_its_celery_setting(variable: str, text: str, setting: str, value: object) -> None:
    assert celery_config(settings.load({variable: text}))[setting] == value


def test_the_visibility_timeout_reaches_all_three_places() -> None:
    config = celery_config(settings.load({"CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT": "5000"}))
    assert config["visibility_timeout"] == 5000
    assert config["broker_transport_options"]["visibility_timeout"] == 5000
    assert config["result_backend_transport_options"]["visibility_timeout"] == 5000


def test_celery_itself_takes_what_we_give_it_over_its_own_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from anyvar_step.runs.queue import make_app

    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere:1/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://elsewhere:1/0")
    with make_app(settings.load(broker_url="redis://here:1/0")) as app:
        assert app.connection_for_write().hostname == "here"
        assert app.connection_for_read().hostname == "here"
        assert app.backend.as_uri() == "redis://here:1/0"
        assert app.conf.task_soft_time_limit == 3600


def test_options_win_over_environment_over_dotenv_over_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CELERY_TIMEZONE=Asia/Tokyo\nCELERY_RESULT_EXPIRES=100\n")
    (tmp_path / ".env").chmod(0o600)
    found = settings.load({"CELERY_RESULT_EXPIRES": "200"}, latency_wait=3.0)
    assert (found.timezone, found.origin("timezone")) == ("Asia/Tokyo", str(tmp_path / ".env"))
    assert (found.result_expires, found.origin("result_expires")) == (200, "environment")
    assert (found.latency_wait, found.origin("latency_wait")) == (3.0, "option")
    assert found.origin("task_time_limit") == "default"


def test_the_backend_is_the_brokers_where_only_that_is_set() -> None:
    found = settings.load({"CELERY_BROKER_URL": "redis://h/1"})
    assert found.backend_url == "redis://h/1"


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:p a|ss@h/1\n")
    assert settings.load({"CELERY_BROKER_URL_FILE": str(secret)}).broker_url == "redis://:p a|ss@h/1"
    with pytest.raises(ConfigurationError, match=r"CELERY_BROKER_URL_FILE names .*missing"):
        settings.load({"CELERY_BROKER_URL_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CELERY_SOFT_TIME_LIMIT": "3900"}, ("CELERY_SOFT_TIME_LIMIT", "CELERY_TASK_TIME_LIMIT")),
        (
            {"CELERY_TASK_TIME_LIMIT": "7200"},
            ("CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT", "CELERY_TASK_TIME_LIMIT"),
        ),
        (
            {"ANYVAR_ALLELES_TABLE_NAME": "locations"},
            ("ANYVAR_ALLELES_TABLE_NAME", "ANYVAR_LOCATIONS_TABLE_NAME"),
        ),
        ({"CELERY_RESULT_EXPIRES": "5"}, ("CELERY_RESULT_EXPIRES", "between two polls")),
        ({"CELERY_TASK_TIME_LIMIT": "soon"}, ("CELERY_TASK_TIME_LIMIT='soon'",)),
        ({"CELERY_TASK_ACKS_LATE": "ture"}, ("CELERY_TASK_ACKS_LATE='ture'", "true or false")),
        ({"CELERY_TIMEZONE": "Mars"}, ("CELERY_TIMEZONE",)),
        ({"ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE": "200"}, ("ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE",)),
        ({"ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE": "600"}, ("ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE",)),
        ({"ANYVAR_STEP_WORK_DIR_MODE": "0444"}, ("ANYVAR_STEP_WORK_DIR_MODE", "0640")),
        ({"ANYVAR_STEP_REFERENCE": "/refs/x.fa,b=c"}, ("ANYVAR_STEP_REFERENCE", "ASSEMBLY=FASTA")),
        ({"CELERY_BROKER_URL": "amqp://u:geheim@h"}, ("CELERY_BROKER_URL=amqp://u:***@h", "redis://")),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_use(environ: dict[str, str], named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(environ)
    for words in named:
        assert words in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_wrong_option_is_named_as_it_was_given_and_once() -> None:
    """The backend is the broker's, and the caller has named one URL."""
    with pytest.raises(ConfigurationError) as caught:
        settings.load({}, broker_url="amqp://x")
    said = (
        "--broker-url=amqp://x: use a redis://, rediss://, redis+socket:// or sentinel:// URL. "
        "See `anyvar-step config --help`"
    )
    assert str(caught.value) == said
    with pytest.raises(ConfigurationError, match=r"--reference=\('=x\.fa',\)"):
        settings.load({}, references=("=x.fa",))


@pytest.mark.parametrize("seconds", [1, 3600, 28_800, 1_000_000])
def test_limits_for_a_run_length_fit_together(seconds: int) -> None:
    limits = {name: str(value) for name, value in settings.limits_for(seconds).items()}
    assert settings.load(limits).soft_time_limit == seconds


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pw@host:1/0", "redis://user:***@host:1/0"),
        ("redis://:p@w@host/0", "redis://:***@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("seqrepo+:../relative/path", "seqrepo+:../relative/path"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert settings.masked(url) == shown


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://h/d?password=secret&host=/x", "postgresql://h/d?password=***&host=/x"),
        ("duckdb:////data/alleles.duckdb", "duckdb:////data/alleles.duckdb"),
    ],
)
def test_a_storage_uri_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert settings.masked(settings.load({"ANYVAR_STORAGE_URI": uri}).storage_uri) == shown


@pytest.mark.parametrize("uri", ["postgresql://u:sec/ret@h/d", "snowflake://u:secret@account/db"])
def test_a_storage_uri_of_another_kind_is_refused_without_showing_it(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="ANYVAR_STORAGE_URI") as refused:
        settings.load({"ANYVAR_STORAGE_URI": uri})
    assert "sec" not in str(refused.value).replace("special", "")
