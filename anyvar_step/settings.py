"""The settings: each environment variable with its type, default and cross-checks.

Names and defaults of AnyVar and Celery are theirs (docs/contract.md#environment); our own begin with
ANYVAR_STEP_. ``load`` reads all. A message names the variable or option and what is right, never a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values, find_dotenv
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from anyvar_step.errors import ConfigurationError
from anyvar_step.text import keep_secret


def _boolean(value: object) -> object:
    """True for true, yes and 1 in any case, as AnyVar has it; False for their opposites."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "yes", "1"):
            return True
        if word in ("false", "no", "0"):
            return False
        raise ValueError("use true or false")
    return value


def _octal(value: object) -> object:
    if isinstance(value, str):
        try:
            mode = int(value, 8)
        except ValueError:
            mode = -1
        if not 0 < mode <= 0o777 or mode & 0o600 != 0o600:
            raise ValueError("use an octal file mode that lets the owner read and write, such as 0640")
        return mode
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory of the database, a long name
        raise ValueError("use a time zone of the IANA database, such as UTC or Europe/Berlin") from None
    return value


def _split(url: str) -> SplitResult:
    """The parts of the URL, its port checked. What urllib says of a wrong URL may hold a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("that is no URL; write special characters in a password as %XX") from None
    if not all(_is_host(host) for host in parts.netloc.rpartition("@")[2].split(",")):
        raise ValueError(
            "the host or port is none (HOST:PORT, a port up to 65535); write special characters in a "
            "password as %XX, / as %2F"
        )
    return parts


def _is_host(text: str) -> bool:
    """Whether the text is empty, a host, or a host and a port."""
    match = re.fullmatch(r"(?:[\w.-]*|\[[0-9a-fA-F:.%\w]+\])(?::(\d*))?", text)
    return match is not None and int(match[1] or 0) <= 65535


def _storage_uri(value: str) -> str:
    if value and _split(value).scheme not in ("postgresql", "duckdb"):
        raise ValueError("use postgresql://… or duckdb:///path, or leave it empty to register nothing")
    return value


_TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname", "ssl_password"}
)
#: Options after ``?`` of a Redis URL, by its scheme: what kombu and Celery both take.
_REDIS_OPTIONS: dict[str, frozenset[str]] = {
    "redis": frozenset(),
    "rediss": _TLS_OPTIONS,
    "redis+socket": frozenset({"virtual_host"}),
    "sentinel": frozenset({"master_name", "sentinel_password"}) | _TLS_OPTIONS,
}


def _redis_url(value: str) -> str:
    """One URL, or several with ``;`` between them, of which Celery uses one that answers."""
    urls = value.split(";")
    for url in urls:
        _check_redis_url(url)
    first = _split(urls[0])
    ours = (first.netloc.rpartition("@")[0], first.path.strip("/"))
    for each in map(_split, urls[1:]):
        user, database = each.netloc.rpartition("@")[0], each.path.strip("/")
        if each.scheme != first.scheme or (first.scheme != "sentinel" and (user, database) != ours):
            raise ValueError("URLs with ; between them may differ in host and port only")
    return value


def _check_redis_url(url: str) -> None:
    parts = _split(url)
    options = _REDIS_OPTIONS.get(parts.scheme)
    if options is None or "://" not in url:
        raise ValueError("use a redis://, rediss://, redis+socket:// or sentinel:// URL")
    if parts.scheme != "redis+socket" and not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError(
            "what follows the host is no number of a database, such as /0; write / in a password as %2F"
        )
    if parts.fragment:
        raise ValueError("a URL of Redis has no #; write # in a password as %23")
    for name in parse_qs(parts.query, keep_blank_values=True):
        if name not in options:
            known = f"the scheme {parts.scheme} has {', '.join(sorted(options)) or 'none'}"
            raise ValueError(f"the URL has an unknown option after ?; {known}")


def _size(value: object) -> object:
    """Bytes: a number, or one with a decimal unit as in 500M, 10G, 10GB."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)B?", value.strip().upper())
    if not match:
        raise ValueError("use a number of bytes, or one with a unit, such as 500M or 10G")
    return int(match[1]) * 1000 ** " KMGT".index(match[2] or " ")


def _address(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("use an http:// or https:// URL")
    return value


def _http_url(value: str) -> str:
    parts = _split(_address(value))
    if parts.query or parts.fragment:
        raise ValueError("use a URL without ? and #; write them in a password as %3F and %23")
    return value.rstrip("/")


def _token(value: str) -> str:
    """A token is a part of an HTTP header."""
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("a token is one word of ASCII letters, digits and signs")
    return value


def _words(value: object) -> object:
    """Comma-separated values as a tuple, without blanks and without empty ones, as AnyVar does."""
    if isinstance(value, str):
        return tuple(filter(None, (part.strip() for part in value.split(","))))
    return value


#: The assembly of a run where nothing else tells it, as AnyVar has it.
DEFAULT_ASSEMBLY = "GRCh38"
#: The key of a reference that serves whatever assembly is asked for.
ANY_ASSEMBLY = "*"


def _references(value: object) -> object:
    """From assembly to FASTA or SeqRepo: ``GRCh38=/refs/GRCh38.fa,GRCh37=/refs/hs37d5.fa``, or a FASTA alone.

    A tuple holds the items of several options, a text all of them with commas between.
    """
    if isinstance(value, str):
        value = tuple(value.split(","))
    if not isinstance(value, tuple):
        return value
    found: dict[str, str] = {}
    for item in filter(None, (str(part).strip() for part in value)):
        assembly, equals, place = item.partition("=")
        if not equals or "/" in assembly:
            assembly, place = ANY_ASSEMBLY, item
        if not (assembly.strip() and place.strip()):
            raise ValueError(f"{item!r} is neither FASTA nor ASSEMBLY=FASTA")
        found[assembly.strip()] = place.strip()
    if ANY_ASSEMBLY in found and len(found) > 1:
        raise ValueError("name the assembly of each where there are several: ASSEMBLY=FASTA,ASSEMBLY=FASTA")
    return found


#: Types of settings, each read from the text of a variable.
Boolean = Annotated[bool, BeforeValidator(_boolean)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
StorageUri = Annotated[str, AfterValidator(_storage_uri)]
#: A table's name; AnyVar takes it for one identifier, so that a dot in it names no schema.
TableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$")]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Address = Annotated[str, AfterValidator(_address)]
Bytes = Annotated[int, Field(gt=0), BeforeValidator(_size)]
Seconds = Annotated[int, Field(gt=0)]
Timezone = Annotated[str, AfterValidator(_timezone)]
FileMode = Annotated[int, BeforeValidator(_octal)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Token = Annotated[str, AfterValidator(_token)]
Tokens = Annotated[tuple[Token, ...], BeforeValidator(_words)]
References = Annotated[dict[str, str], BeforeValidator(_references)]

#: Schemes of files on this host, which ask for no credentials.
_FILES = frozenset({"duckdb", "seqrepo+file", "file"})
#: Options after ``?`` whose values are no secrets.
_OPEN = frozenset({"host", "port", "dbname", "user", "sslmode", "virtual_host", "master_name"}) | (
    _TLS_OPTIONS - {"ssl_password"}
)


def masked(url: str) -> str:
    """The URL, or URLs with ``;`` between them, for messages: without passwords, tokens, values of options.

    What is no URL, or one that a password may have broken, is replaced as a whole.
    """
    if url.startswith("seqrepo+:"):
        return url  # a path
    urls = url.split(";")
    if not all("://" in each for each in urls):
        scheme = re.match(r"[a-z+]+://", url)
        return f"{scheme[0] if scheme else ''}***" if url else ""
    return ";".join(_masked(each) for each in urls)


def _masked(url: str) -> str:
    scheme, _, rest = url.partition("://")
    scheme = scheme if re.fullmatch(r"[a-z][a-z0-9+]*", scheme) else "***"
    if scheme in _FILES:
        return url
    try:
        parts = _split(url)
    except ValueError:
        return f"{scheme}://***"
    # An @ behind the host, or spaces: a password with a character that ends the host's part of a URL.
    if "@" in parts.path + parts.query + parts.fragment or not rest.isprintable() or " " in rest:
        return f"{scheme}://***"
    user, _, host = parts.netloc.rpartition("@")
    if user:
        name, colon, _ = user.partition(":")
        user = f"{name}:***@" if colon else "***@"
    return f"{scheme}://{user}{host}{parts.path}{_masked_options(parts.query)}" + "#***" * bool(
        parts.fragment
    )


def _masked_options(query: str) -> str:
    if not query:
        return ""
    shown = []
    named = True
    for option in query.split("&"):
        name, equals, value = option.partition("=")
        if name in _OPEN:
            shown.append(f"{name}={value}")
        else:  # a secret may contain &, so that the next name may be a part of it
            shown.append(f"{name if named and equals and name.isidentifier() else ''}=***")
            named = False
    return "?" + "&".join(shown)


#: The longest that a web API may have a step wait between two looks at its run, seconds.
LONGEST_POLL = 15.0


def _variable(name: str, default: Any, description: str, celery: str = "", secret: bool = False) -> Any:
    """One environment variable: its name, default, meaning, and the Celery setting it reaches."""
    return Field(
        default,
        alias=name,
        description=description,
        json_schema_extra={"celery": celery, "secret": secret},
    )


class Settings(BaseModel):
    """The effective settings; ``origin`` tells where each came from."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    # The work dir and the run-status endpoint.
    work_dir: Path | None = _variable(
        "ANYVAR_VCF_ASYNC_WORK_DIR", None, "The directory that step, web API and workers share"
    )
    failure_status_code: Annotated[int, Field(ge=400, le=599)] = _variable(
        "ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE", 500, "Status code of the run-status endpoint for a failed run"
    )
    auth_tokens: Tokens = _variable(
        "ANYVAR_AUTH_TOKEN_LIST",
        (),
        "Bearer tokens that the web API accepts, comma-separated; none = no token is asked for",
        secret=True,
    )
    auth_issuer_url: str = _variable(
        "ANYVAR_AUTH_ISSUER_URL",
        "",
        "Issuer (iss) of the JWTs that the web API accepts",
    )
    auth_jwks_uri: Address = _variable("ANYVAR_AUTH_JWKS_URI", "", "Where the issuer publishes its keys")
    auth_audiences: Words = _variable(
        "ANYVAR_AUTH_AUDIENCES", (), "Audiences (aud), comma-separated, one of which a JWT must have"
    )
    auth_appids: Words = _variable(
        "ANYVAR_AUTH_APPIDS", (), "Application ids (appid), comma-separated, one of which a JWT must have"
    )
    auth_scopes: Words = _variable(
        "ANYVAR_AUTH_SCOPES", (), "Scopes (scope), comma-separated, one of which a JWT must have"
    )
    auth_emails: Words = _variable(
        "ANYVAR_AUTH_EMAILS", (), "E-mail addresses (email), in any case, one of which a JWT must have"
    )
    auth_subjects: Words = _variable(
        "ANYVAR_AUTH_SUBJECTS", (), "Subjects (sub), comma-separated, one of which a JWT must have"
    )
    expected_vrs_ids_per_second: Annotated[int, Field(gt=0)] = _variable(
        "ANYVAR_EXPECTED_VRS_IDS_PER_SECOND", 500, "Speed from which the web API's Retry-After is computed"
    )

    variations_failure_status_code: Annotated[int, Field(ge=400, le=599)] = _variable(
        "ANYVAR_VARIATIONS_ASYNC_FAILURE_STATUS_CODE",
        500,
        "Status code of the web API for a failed registration of variations",
    )
    expected_variations_per_second: Annotated[int, Field(gt=0)] = _variable(
        "ANYVAR_EXPECTED_VARIATIONS_PER_SECOND",
        100,
        "Speed from which the Retry-After of variations is computed",
    )
    service_info: Path | None = _variable(
        "ANYVAR_SERVICE_INFO", None, "YAML file with the web API's GA4GH service info"
    )
    logging_config: Path | None = _variable(
        "ANYVAR_LOGGING_CONFIG", None, "YAML file for logging.config.dictConfig, of web API and workers"
    )
    allowed_hosts: Words = _variable(
        "ANYVAR_STEP_ALLOWED_HOSTS",
        (),
        "Host names by which the web API may be asked, comma-separated; * = any; none = any where it asks "
        "for tokens, else localhost",
    )

    seqrepo_uri: str = _variable(
        "SEQREPO_DATAPROXY_URI",
        "",
        "SeqRepo, as seqrepo+file:///path, seqrepo+:path or seqrepo+http://host/seqrepo, for the assemblies "
        "that ANYVAR_STEP_REFERENCE does not name",
    )

    # The store.
    storage_uri: StorageUri = _variable(
        "ANYVAR_STORAGE_URI",
        "",
        "Where workers register alleles: postgresql://… or duckdb:///path; empty = nowhere",
        secret=True,
    )
    alleles_table: TableName = _variable(
        "ANYVAR_ALLELES_TABLE_NAME", "alleles", "AnyVar's table of alleles in the store"
    )
    locations_table: TableName = _variable(
        "ANYVAR_LOCATIONS_TABLE_NAME", "locations", "AnyVar's table of locations in the store"
    )
    sequence_references_table: TableName = _variable(
        "ANYVAR_SEQUENCE_REFERENCES_TABLE_NAME",
        "sequence_references",
        "AnyVar's table of sequence references in the store",
    )

    store_patience: Annotated[float, Field(ge=0)] = _variable(
        "ANYVAR_STEP_STORE_PATIENCE", 60.0, "Seconds for which a store that does not answer is tried again"
    )

    broker_patience: Annotated[float, Field(gt=0)] = _variable(
        "ANYVAR_STEP_BROKER_PATIENCE",
        600.0,
        "Seconds for which a worker waits for a Redis that is away or refuses commands; then it ends with 69",
    )

    # Broker and backend.
    broker_url: RedisUrl = _variable(
        "CELERY_BROKER_URL", "redis://localhost:6379/0", "Redis that holds the queue", "broker_url", True
    )
    backend_url: RedisUrl = _variable(
        "CELERY_BACKEND_URL",
        "redis://localhost:6379/0",
        "Redis that holds states and results; where only the broker is set, the broker's",
        "result_backend",
        True,
    )

    sentinel_master: str = _variable(
        "ANYVAR_STEP_SENTINEL_MASTER",
        "mymaster",
        "Primary that the sentinels of a sentinel:// URL are asked for, where the URL has no ?master_name=",
    )

    # Celery.
    task_default_queue: str = _variable(
        "CELERY_TASK_DEFAULT_QUEUE", "anyvar_q", "Queue of the runs", "task_default_queue"
    )
    event_queue_prefix: str = _variable(
        "CELERY_EVENT_QUEUE_PREFIX", "anyvar_ev", "Prefix of the event queues", "event_queue_prefix"
    )
    timezone: Timezone = _variable("CELERY_TIMEZONE", "UTC", "Time zone of Celery's clocks", "timezone")
    result_expires: Seconds = _variable(
        "CELERY_RESULT_EXPIRES", 7200, "Seconds for which a state or result is kept", "result_expires"
    )
    visibility_timeout: Seconds = _variable(
        "CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT",
        7200,
        "Seconds after which Redis gives an unacknowledged run to another worker",
        "broker_transport_options.visibility_timeout",
    )
    task_acks_late: Boolean = _variable(
        "CELERY_TASK_ACKS_LATE", True, "Acknowledge a run when it ends, not when it begins", "task_acks_late"
    )
    task_reject_on_worker_lost: Boolean = _variable(
        "CELERY_TASK_REJECT_ON_WORKER_LOST",
        False,
        "Queue a run again when its worker process is killed",
        "task_reject_on_worker_lost",
    )
    worker_prefetch_multiplier: Annotated[int, Field(ge=0)] = _variable(
        "CELERY_WORKER_PREFETCH_MULTIPLIER",
        1,
        "Runs that a worker process reserves ahead",
        "worker_prefetch_multiplier",
    )
    task_time_limit: Seconds = _variable(
        "CELERY_TASK_TIME_LIMIT", 3900, "Seconds after which a run's process is killed", "task_time_limit"
    )
    soft_time_limit: Seconds = _variable(
        "CELERY_SOFT_TIME_LIMIT",
        3600,
        "Seconds after which a run is asked to stop (SoftTimeLimitExceeded)",
        "task_soft_time_limit",
    )
    worker_send_task_events: Boolean = _variable(
        "CELERY_WORKER_SEND_TASK_EVENTS", False, "Send events for monitors", "worker_send_task_events"
    )

    # Ours.
    references: References = _variable(
        "ANYVAR_STEP_REFERENCE",
        {},
        "FASTA, or seqrepo+file:///path, for all assemblies, or of each: "
        "GRCh38=/refs/GRCh38.fa,GRCh37=/refs/hs37d5.fa",
    )
    reference_aliases: Path | None = _variable(
        "ANYVAR_STEP_REFERENCE_ALIASES",
        None,
        "Further contig names: a tab-separated table with all names of one sequence in a row "
        "(UCSC chromAlias, NCBI assembly_report)",
    )
    engine: Literal["auto", "native", "python"] = _variable(
        "ANYVAR_STEP_ENGINE",
        "auto",
        "VRS engine: native (compiled), python, or auto: native where it is built and the reference is a "
        "plain FASTA",
    )
    threads: Annotated[int, Field(gt=0)] = _variable(
        "ANYVAR_STEP_THREADS", 1, "Threads with which a worker process annotates and compresses a VCF"
    )
    worker_work_dir: Path | None = _variable(
        "ANYVAR_STEP_WORKER_WORK_DIR", None, "The work dir as the workers see it, where that differs"
    )
    work_dir_mode: FileMode | None = _variable(
        "ANYVAR_STEP_WORK_DIR_MODE", None, "Octal mode of the files in the work dir; unset = by the umask"
    )
    abandon_after: Annotated[float, Field(ge=0)] = _variable(
        "ANYVAR_STEP_ABANDON_AFTER", 600.0, "Seconds after which workers drop a run whose step is gone"
    )
    latency_wait: Annotated[float, Field(ge=0)] = _variable(
        "ANYVAR_STEP_LATENCY_WAIT", 60.0, "Seconds to wait for a shared filesystem to show a file"
    )

    url: HttpUrl | None = _variable(
        "ANYVAR_STEP_URL",
        None,
        "Web API, AnyVar's or ours, through which a step reaches its run (--via http)",
        secret=True,
    )
    token: Token | None = _variable(
        "ANYVAR_STEP_TOKEN", None, "Bearer token that the step shows to the web API", secret=True
    )
    max_upload: Bytes | None = _variable(
        "ANYVAR_STEP_MAX_UPLOAD", None, "Largest VCF that the web API takes, such as 500M or 10G; unset = any"
    )
    upload_patience: Annotated[float, Field(gt=0)] = _variable(
        "ANYVAR_STEP_UPLOAD_PATIENCE", 60.0, "Seconds for which the web API waits for more of an upload"
    )
    max_connections: Annotated[int, Field(gt=0)] = _variable(
        "ANYVAR_STEP_MAX_CONNECTIONS", 1000, "Connections that each web process holds at once; more get 503"
    )

    _origin: dict[str, str] = {}
    _mistyped: dict[str, str] = {}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Two settings that contradict each other lose runs in the night; say so before the first one."""
        if self.soft_time_limit >= self.task_time_limit:
            raise ValueError(
                f"CELERY_SOFT_TIME_LIMIT ({self.soft_time_limit} s) must be below "
                f"CELERY_TASK_TIME_LIMIT ({self.task_time_limit} s), or it never fires"
            )
        if self.visibility_timeout <= self.task_time_limit:
            raise ValueError(
                f"CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT ({self.visibility_timeout} s) must be "
                f"above CELERY_TASK_TIME_LIMIT ({self.task_time_limit} s), or Redis gives a running run to "
                "a second worker"
            )
        tables = (self.alleles_table, self.locations_table, self.sequence_references_table)
        if len({name.lower() for name in tables}) < len(tables):
            raise ValueError(
                "ANYVAR_ALLELES_TABLE_NAME, ANYVAR_LOCATIONS_TABLE_NAME and "
                "ANYVAR_SEQUENCE_REFERENCES_TABLE_NAME must differ: each is a table of its own "
                f"({', '.join(tables)})"
            )
        if self.result_expires < LONGEST_POLL:
            raise ValueError(
                f"CELERY_RESULT_EXPIRES ({self.result_expires} s) must not be below the longest wait "
                f"between two polls ({LONGEST_POLL:g} s), or a result expires unseen"
            )
        return self

    def origin(self, field: str) -> str:
        """Where the field's value came from: default, the ``.env`` file's path, environment, option."""
        return self._origin.get(field, "default")

    def limits(self) -> dict[str, int]:
        """The times that step and workers must agree on, seconds, by variable."""
        fields = ("soft_time_limit", "task_time_limit", "visibility_timeout", "result_expires")
        return {str(type(self).model_fields[field].alias): getattr(self, field) for field in fields}

    def require_reference(self) -> None:
        """Raise an error that says how to name a reference, where there is none."""
        if not (self.references or self.seqrepo_uri):
            raise ConfigurationError(
                "the worker has no reference",
                "Name a FASTA: --reference /refs/GRCh38.fa, or set ANYVAR_STEP_REFERENCE; name one for each "
                "assembly where there are several: --reference GRCh38=/refs/GRCh38.fa",
            )

    def assembly(self) -> str:
        """The assembly of a run that names none: the only reference's, where it has a name, else GRCh38."""
        names = set(self.references) - {ANY_ASSEMBLY}
        return names.pop() if len(names) == 1 else DEFAULT_ASSEMBLY

    @property
    def mistyped(self) -> Mapping[str, str]:
        """Variables that begin with ANYVAR_STEP_ and are no settings, each with the remedy."""
        return self._mistyped

    def required_url(self) -> str:
        """The web API's address, or an error that says how to name one."""
        if self.url is None:
            raise ConfigurationError(
                "ANYVAR_STEP_URL is not set", "Name the web API that the step is to use, http://HOST:PORT"
            )
        return self.url

    def required_work_dir(self) -> Path:
        """The work dir, or an error that says how to name one."""
        if self.work_dir is None:
            raise ConfigurationError(
                "ANYVAR_VCF_ASYNC_WORK_DIR is not set",
                "Name the directory that the workers share, or a web API in ANYVAR_STEP_URL; or use "
                "--local to run without any server",
            )
        return self.work_dir


def processors() -> int:
    """The number of processors that this process may use: its affinity, or all of the host on macOS."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def limits_for(seconds: int) -> dict[str, int]:
    """Time limits, visibility timeout and result expiry that fit a run of that length together.

    The hard limit leaves the run five minutes to end after the soft one, the visibility timeout outlasts
    the hard limit by five minutes, and a result outlives the longest run by an hour.
    """
    hard = seconds + 300
    visible = hard + 300
    return {
        "CELERY_SOFT_TIME_LIMIT": seconds,
        "CELERY_TASK_TIME_LIMIT": hard,
        "CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT": visible,
        "CELERY_RESULT_EXPIRES": max(7200, visible + 3600),
    }


#: Options that are not called as their settings are.
_OPTIONS = {"references": "--reference", "reference_aliases": "--aliases"}


def load(environ: Mapping[str, str] | None = None, **options: Any) -> Settings:
    """Settings from ``options`` (by field, None = not given), then environment, ``.env`` and defaults.

    ``.env`` is looked for from the current directory upward and, as with AnyVar, never overrides what the
    environment holds. ``NAME_FILE`` names a file that holds a secret's value. Empty values count as unset.

    Raises ConfigurationError with a clause for each variable that is wrong.
    """
    environ = os.environ if environ is None else environ
    path = find_dotenv(usecwd=True)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (path, _dotenv(path) if path else {}),
        ("environment", environ),
    ]
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        variable = str(field.alias)
        for source, layer in layers:
            value = layer.get(variable) or (_from_file(layer, variable) if _is_secret(name) else None)
            if value:
                values[name], origin[name] = value, source
        if options.get(name) is not None:
            values[name], origin[name] = options[name], "option"
        if name in values and _is_secret(name):
            _keep_secrets(values[name])
    if "backend_url" not in values and "broker_url" in values:
        values["backend_url"], origin["backend_url"] = values["broker_url"], "CELERY_BROKER_URL"
    for name in ("broker_url", "backend_url"):
        url, master = str(values.get(name, "")), values.get("sentinel_master")
        if master and url.startswith("sentinel:") and "master_name=" not in url:
            values[name] = f"{url}{'&' if '?' in url.rpartition(';')[2] else '?'}master_name={master}"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origin), "See `anyvar-step config --help`") from None
    settings._origin.update(origin)
    settings._mistyped.update(_mistyped(layer for _, layer in layers))
    return settings


def _keep_secrets(value: str) -> None:
    """Keep the value, its words, and the passwords of URLs out of all messages, even where it is wrong."""
    parts = [value, *re.split(r"[\s,]+", value)] if "://" not in value else []
    for url in re.findall(r"://([^/?#]*|.*)@", value):
        parts.append(url.partition(":")[2] or url)
    for _, password in re.findall(r"(\w*(?:password|token|secret))=([^&#;\s]*)", value):
        parts.append(password)
    for part in parts:
        keep_secret(part)
        keep_secret(unquote(part))


#: Families of variables in which an unknown one is reported.
_FAMILIES = ("ANYVAR_STEP_", "ANYVAR_AUTH_")


def _mistyped(layers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Variables of ``_FAMILIES`` that are no settings, each with the remedy."""
    known = set[str]()
    for name, field in Settings.model_fields.items():
        known |= {str(field.alias), *([f"{field.alias}_FILE"] if _is_secret(name) else [])}
    given = {name for layer in layers for name in layer if name.startswith(_FAMILIES)}
    remedies = {}
    for name in sorted(given - known):
        near = " or ".join(get_close_matches(name, known))
        remedies[name] = f"Did you mean {near}?" if near else "`anyvar-step config` lists the variables"
    return remedies


def read_yaml(path: Path, variable: str) -> dict[str, Any]:
    """The mapping in the YAML file that the variable names. Raises ConfigurationError where it is none."""
    try:
        import yaml

        with path.open(encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except ImportError:
        raise ConfigurationError(f"{variable} needs PyYAML", "Install anyvar-step[web]") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{variable}: {path} cannot be read: {error}", "Write it as YAML") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{variable}: {path} holds no mapping", "Write names and values")
    return content


def configure_logging(settings: Settings) -> None:
    """Apply ANYVAR_LOGGING_CONFIG, a mapping for logging.config.dictConfig, as AnyVar does.

    Raises ConfigurationError where it is none.
    """
    if settings.logging_config is None:
        return
    import logging.config

    try:
        logging.config.dictConfig(read_yaml(settings.logging_config, "ANYVAR_LOGGING_CONFIG"))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ConfigurationError(
            f"ANYVAR_LOGGING_CONFIG: {settings.logging_config} is no configuration of logging: {error}",
            "See logging.config in Python's documentation",
        ) from None


def _dotenv(path: str) -> Mapping[str, Any]:
    """The variables in a ``.env`` file."""
    try:
        return dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", "Write it as UTF-8 text") from None


def _from_file(layer: Mapping[str, Any], variable: str) -> str | None:
    """The content of the file that ``<variable>_FILE`` names."""
    name = layer.get(f"{variable}_FILE")
    if not name:
        return None
    try:
        text = Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{variable}_FILE names {name}: {error.strerror}") from None
    except ValueError:  # not shown: it may be a secret in another encoding, or a path with a NUL
        raise ConfigurationError(f"{variable}_FILE names {name!r}, which holds no UTF-8 text") from None
    if len(text.splitlines()) > 1:
        _keep_secrets(text)
        raise ConfigurationError(
            f"{variable}_FILE names {name}, which has several lines", "Write the value alone into it"
        )
    return text


def shown(settings: Settings, name: str) -> str:
    """The field's value in the form of its variable, for messages: without its password."""
    value = getattr(settings, name)
    if isinstance(value, dict):
        value = ",".join(place if key == ANY_ASSEMBLY else f"{key}={place}" for key, place in value.items())
    elif isinstance(value, tuple):
        value = ",".join(value)
    elif name == "work_dir_mode" and value is not None:
        value = f"{value:04o}"
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return masked(text) if _is_secret(name) else text


def chosen(settings: Settings) -> dict[str, str]:
    """The variables that were set, and their values; none that can hold a secret."""
    return {
        str(field.alias): shown(settings, name)
        for name, field in Settings.model_fields.items()
        if settings.origin(name) != "default" and not _is_secret(name)
    }


def _is_secret(name: str) -> bool:
    extra: Any = Settings.model_fields[name].json_schema_extra
    return bool(extra["secret"])


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    """A clause for each wrong setting, by its option or variable, without the value of a secret."""
    lines = []
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(message)
            continue
        name = str(item["loc"][0])
        if origin.get(name) == "CELERY_BROKER_URL":
            continue  # taken from there, where it is wrong already
        secret = _is_secret(name) or "://" in str(item["input"])
        shown = masked(str(item["input"])) if secret else repr(item["input"])
        called = Settings.model_fields[name].alias
        if origin.get(name) == "option":
            called = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        lines.append(f"{called}={shown}: {message}")
    return "; ".join(dict.fromkeys(lines))  # several tokens of a list may be wrong in one way
