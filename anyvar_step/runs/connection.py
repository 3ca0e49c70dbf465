"""Connections to Redis: URL, retries, and the translation of redis-py's exceptions."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from anyvar_step.errors import AccessRefused, ConfigurationError, StepError, Unavailable
from anyvar_step.runs.keys import step_key
from anyvar_step.settings import Settings, masked

_logger = logging.getLogger(__name__)

#: Seconds for which a lost connection, or a Redis that refuses commands for now, is tried again: not at all
#: where a signal ends the step, over a dropped connection, and over an outage or a failover.
NO_RETRY, BRIEF_RETRY, LONG_RETRY = 0.0, 0.5, 60.0
#: Seconds until a Redis counts as unreachable that takes no connection, and that does not answer the first
#: command: one behind TLS may wait for the rest of a handshake.
CONNECT_TIMEOUT, FIRST_TIMEOUT = 5.0, 8.0
#: Seconds without an answer after which an open connection counts as lost.
ANSWER_TIMEOUT = 15.0
#: Failures after which the pause before the next try grows no longer: 2 to the power of all failures of an
#: outage of hours is too large for a float.
MOST_DOUBLINGS = 16
#: Ports of a URL without one, and the name that Sentinel's own example gives a primary.
REDIS_PORT, SENTINEL_PORT, DEFAULT_MASTER = 6379, 26379, "mymaster"

#: Error replies of a Redis that will serve again (docs/contract.md#redis-errors): a replica, too few
#: replicas, loading, no primary, full, failing over, disk trouble.
OUTAGE_REPLIES = (
    "READONLY",
    "NOREPLICAS",
    "LOADING",
    "MASTERDOWN",
    "OOM",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "UNBLOCKED",
)
_REPLIES = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.MasterDownError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
_OUTAGE_REPLY = re.compile(rf"-?\b({'|'.join(OUTAGE_REPLIES)})\b")

#: A Redis that expects no TLS waits for the rest of what it takes for a command.
_PORT = " (is that its TLS port?)"


@contextmanager
def translated(url: str, variable: str) -> Iterator[None]:
    """Translate redis-py's exceptions into ours, with the masked URL and the name of its variable."""
    try:
        yield
    except redis.exceptions.NoScriptError:  # redis-py's Script loads it then, and calls it again
        raise
    except redis.RedisError as error:
        raise _failure(error, url, variable) from error


def _failure(error: redis.RedisError, url: str, variable: str) -> StepError:
    """Our exception for one of redis-py's."""
    if is_refusal(error):
        return AccessRefused(f"Redis at {masked(url)} refused us: {error}", _rights(error, variable))
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        if (trouble := _with_tls(url, variable, str(error))) is not None:
            return trouble
        return Unavailable(
            f"no Redis answers at {masked(url)}: {error}",
            f"Start it, or set {variable}{_PORT if url.startswith('rediss:') else ''}; without any server, "
            "use --local",
        )
    refuses = "refuses commands for now" if is_outage(error) else "failed"
    return Unavailable(f"Redis at {masked(url)} {refuses}: {error}", "See its log")


def is_refusal(error: BaseException) -> bool:
    """Whether Redis denies the user its password, or the command or a key in it, also within a script."""
    refusals = (redis.AuthenticationError, redis.exceptions.NoPermissionError)
    return isinstance(error, refusals) or "The user executing the script can't" in str(error)


def _rights(error: redis.RedisError, variable: str) -> str:
    """What helps a user whom Redis does not know, or knows and denies something."""
    if not isinstance(error, redis.AuthenticationError):
        return f"Give the user in {variable} the rights in docs/security.md; ACL LOG tells which it lacks"
    return f"Check user and password in {variable}"


def _with_tls(url: str, variable: str, words: str) -> ConfigurationError | None:
    """What is wrong with TLS, where the connection failed for that: no retry mends it."""
    if not url.startswith("rediss:"):
        return None
    if "certificate verify failed" in words.lower():
        return ConfigurationError(
            f"the certificate of Redis at {masked(url)} is not trusted: {words}",
            f"Name your CA's certificates in {variable}: rediss://…?ssl_ca_certs=/path/to/ca.pem",
        )
    if "wrong version number" in words.lower() or "record layer failure" in words.lower():
        return ConfigurationError(
            f"Redis at {masked(url)} does not speak TLS on that port",
            f"Name its TLS port in {variable}, or use redis://",
        )
    if "No such file" in words or "ermission denied" in words or "PEM" in words:
        return ConfigurationError(
            f"the certificates for {masked(url)} cannot be read: {words}",
            f"Check ssl_ca_certs, ssl_certfile and ssl_keyfile in {variable}",
        )
    return None


def is_outage(error: BaseException) -> bool:
    """Whether the error passes by itself: a lost connection, or one of OUTAGE_REPLIES.

    A wrong password and a missing right do not.
    """
    if is_refusal(error):
        return False
    return isinstance(error, OSError | redis.ConnectionError | redis.TimeoutError) or _is_outage_reply(error)


def _is_outage_reply(error: BaseException) -> bool:
    if isinstance(error, _REPLIES):
        return True
    # Redis before 7 wraps the reply of a command in a script, and redis-py has no class for NOREPLICAS.
    return isinstance(error, redis.ResponseError) and _OUTAGE_REPLY.search(str(error)[:300]) is not None


class TimedRetry(Retry):
    """redis-py's retry, for ``seconds`` in all instead of a number of times, and for OUTAGE_REPLIES too.

    redis-py nests the retry of a connection in that of a command: by number they would multiply. The
    connection is closed before each retry, so that the next one goes to the new primary after a failover.
    """

    def __init__(self, seconds: float, lost: float | None = None) -> None:
        """``lost`` are the seconds for a connection that is lost or refused, where they differ."""
        super().__init__(ExponentialBackoff(cap=1, base=0.05), -1 if seconds else 0)
        self.seconds = seconds
        self._lost = lost

    def __deepcopy__(self, memo: object) -> TimedRetry:
        """Itself: all connections of a client follow a change of ``seconds``."""
        return self

    @contextmanager
    def bridging(self, seconds: float) -> Iterator[None]:
        """Within the block, an outage of Redis is bridged for that many seconds."""
        self.seconds, before = seconds, self.seconds
        try:
            yield
        finally:
            self.seconds = before

    def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
        **_: Any,
    ) -> Any:
        """The result of ``do``; ``fail`` is called with each error before the next try."""
        begin, failures = time.monotonic(), 0
        while True:
            try:
                return do()
            except (redis.RedisError, OSError) as error:
                if not is_outage(error) or (is_retryable is not None and not is_retryable(error)):
                    raise
                failures += 1
                fail(error, failures) if with_failure_count else fail(error)
                pause = self._backoff.compute(min(failures, MOST_DOUBLINGS))
                seconds = self.seconds if self._lost is None or _is_outage_reply(error) else self._lost
                if time.monotonic() + pause > begin + seconds:
                    raise
                if failures == 1 and seconds > BRIEF_RETRY:
                    _logger.warning("Redis does not serve: %s; trying for %g s", error, seconds)
                time.sleep(pause)


# -- URLs ------------------------------------------------------------------------------------------------
#
# One URL; ``url1;url2``, alternatives that differ in host and port only; or ``sentinel://h1;sentinel://h2``,
# which name the primary of ``?master_name=``. Celery and kombu have the same forms, but take neither TLS nor
# the name of a primary from the URL of a sentinel: ``celery_url`` and ``celery_options`` divide it for them.


def _parts(url: str) -> list[SplitResult]:
    return [urlsplit(each) for each in url.split(";")]


def is_sentinel(url: str) -> bool:
    """Whether the URL names sentinels."""
    return url.startswith("sentinel:")


def is_list(url: str) -> bool:
    """Whether the URL is a list of alternative servers."""
    return ";" in url and not is_sentinel(url)


def _hosts(url: str, port: int = REDIS_PORT) -> list[tuple[str, int]]:
    """Host and port of each URL of a list; ``port`` where one names none."""
    return [(part.hostname or "localhost", part.port or port) for part in _parts(url)]


def _account(url: str) -> tuple[str, str]:
    """User and password as they stand in one of the URLs of a list, and the number of the database."""
    parts = _parts(url)
    users = [part.netloc.rpartition("@")[0] for part in parts if "@" in part.netloc]
    databases = [part.path.strip("/") for part in parts if part.path.strip("/")]
    return users[0] if users else "", databases[0] if databases else "0"


def _options(url: str) -> dict[str, str]:
    """The options after ``?`` of all URLs of a list."""
    return {name: value for part in _parts(url) for name, value in parse_qsl(part.query)}


def _tls(url: str) -> dict[str, str]:
    """The TLS options of sentinels' URLs, for redis-py; empty without TLS."""
    options = {name: value for name, value in _options(url).items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", **options} if options else {}


def redis_url(celery_url: str) -> str:
    """The URL in redis-py's form: Celery writes ``redis+socket:///path?virtual_host=0`` for a socket."""
    parts = urlsplit(celery_url)
    if parts.scheme != "redis+socket":
        return celery_url
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")
    return f"unix://{parts.netloc}{parts.path}?db={database}"


def celery_url(url: str) -> str:
    """The URL for Celery, which asks that rediss:// says whether certificates are checked: they are.

    Celery's result backend takes no list but of sentinels: its first URL, and ``failing_over``.
    """
    if is_sentinel(url):
        user, database = _account(url)
        hosts = (part.netloc.rpartition("@")[2] for part in _parts(url))
        return ";".join(f"sentinel://{f'{user}@' if user else ''}{host}/{database}" for host in hosts)
    return ";".join(
        f"{each}{'&' if urlsplit(each).query else '?'}ssl_cert_reqs=required"
        if each.startswith("rediss:") and "ssl_cert_reqs=" not in each
        else each
        for each in url.split(";")
    )


def celery_options(url: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Transport options and TLS options for Celery: of sentinels what their URL cannot say, else nothing."""
    if not is_sentinel(url):
        return {}, None
    tls = _tls(url)
    reqs = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
    celery_tls = {**tls, "ssl_cert_reqs": reqs[tls["ssl_cert_reqs"]]} if tls else None
    return {"master_name": _master_name(url), "sentinel_kwargs": _sentinel_options(url)}, celery_tls


def _master_name(url: str) -> str:
    return _options(url).get("master_name", DEFAULT_MASTER)


def _sentinel_options(url: str) -> dict[str, Any]:
    """How to reach the sentinels themselves; a password of theirs is an option of the URL."""
    tls, options = _tls(url), _options(url)
    found: dict[str, Any] = {"socket_connect_timeout": 1.0, "socket_timeout": 2.0}
    if password := options.get("sentinel_password"):
        found["password"] = password
    return {**found, "ssl": True, **tls} if tls else found


class _Timely(redis.SSLConnection):
    """A TLS connection whose handshake has a time limit: a Redis without TLS never answers it."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        limit = sock.gettimeout()
        sock.settimeout(CONNECT_TIMEOUT)
        wrapped = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        wrapped.settimeout(limit)
        return wrapped


class _Translating(redis.Redis):
    """A client whose commands and pipelines raise our exceptions in place of redis-py's."""

    source = ("", "")  # the URL and its variable

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with translated(*self.source):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.client.Pipeline:
        pipe = _TranslatingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipe.source = self.source
        return pipe


class _TranslatingPipeline(redis.client.Pipeline):
    source = ("", "")

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with translated(*self.source):
            return super().execute(raise_on_error)


def broker(settings: Settings, retry: float | TimedRetry = BRIEF_RETRY) -> redis.Redis:
    """A client of the broker, as ``connect`` makes it; its commands raise Unavailable or AccessRefused."""
    return connect(settings.broker_url, retry, "CELERY_BROKER_URL")


def backend(settings: Settings, retry: float | TimedRetry = BRIEF_RETRY) -> redis.Redis:
    """The same of the result backend."""
    return connect(settings.backend_url, retry, "CELERY_BACKEND_URL")


def connect(url: str, retry: float | TimedRetry = BRIEF_RETRY, variable: str = "") -> redis.Redis:
    """A client with connections opened at first use; outages are tried again for ``retry`` seconds.

    A Redis that takes connections and does not answer counts as away after 15 s, 3 s with NO_RETRY. Of a list
    of URLs the next one is tried where one fails. With the name of the URL's variable, redis-py's exceptions
    are translated into ours.

    It is used by one thread. The pool is not limited to one connection: a signal in the wrong moment loses a
    connection, and cancelling the run would then find none.
    """
    timed = retry if isinstance(retry, TimedRetry) else TimedRetry(retry)
    hasty = timed.seconds == NO_RETRY
    common: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "backslashreplace",
        "socket_connect_timeout": 3 if hasty else CONNECT_TIMEOUT,
        "socket_timeout": 3 if hasty else ANSWER_TIMEOUT,
        "retry": timed,
    }
    if is_sentinel(url):
        pool = _sentinel_pool(url, common)
    else:
        pool = redis.ConnectionPool.from_url(redis_url(url.partition(";")[0]), **common)
        if issubclass(pool.connection_class, redis.SSLConnection):
            pool.connection_class = _Timely
        pool.connection_class = failing_over(pool.connection_class, url)
    if not variable:
        return redis.Redis.from_pool(pool)
    client = _Translating(connection_pool=pool)
    client.auto_close_connection_pool = True
    client.source = (url, variable)
    return client


def _sentinel_pool(url: str, common: dict[str, Any]) -> redis.ConnectionPool:
    """Connections to the primary that the sentinels name, asked again for each new one."""
    (account, database), tls = _account(url), _tls(url)
    user, _, password = account.partition(":")
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        _hosts(url, SENTINEL_PORT), sentinel_kwargs={**_sentinel_options(url), "retry": TimedRetry(NO_RETRY)}
    )
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        _master_name(url),
        sentinel,
        db=int(database),
        username=unquote(user) or None,
        password=unquote(password) or None,
        **({"ssl": True, **tls} if tls else {}),
        **common,
    )


class NotPrimary(redis.ConnectionError):
    """The server of a list of URLs is a replica, which takes no writes."""


def to_primary(kind: Any) -> Any:
    """The connection class, as one that raises NotPrimary when it is opened to a replica.

    HELLO, which any user may call, tells the role. Redis before 6.2 refuses it without a version: its
    replicas are found by their READONLY.
    """

    class ToPrimary(kind):  # type: ignore[misc]
        def connect_check_health(self, *args: Any, **options: Any) -> None:
            """Open the connection, where it is not open."""
            if self._sock is not None:
                return
            super().connect_check_health(*args, **options)
            self.send_command("HELLO", check_health=False)
            try:
                answer = self.read_response()
            except redis.ResponseError:
                return
            fields = (
                answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
            )
            texts = (
                field.decode() if isinstance(field, bytes) else field for each in fields for field in each
            )
            if "replica" in texts:
                self.disconnect()
                raise NotPrimary(f"{self.host}:{self.port} is a replica")

    ToPrimary.__name__ = kind.__name__
    return ToPrimary


def failing_over(kind: Any, url: str) -> Any:
    """The connection class, for a list of URLs one that goes to the next server where one fails."""
    if not is_list(url):
        return kind
    hosts = _hosts(url)

    class Failover(to_primary(kind)):  # type: ignore[misc]
        _number = 0

        def connect_check_health(self, *args: Any, **options: Any) -> None:
            """Open the connection to the first server from here on that is no replica."""
            for _ in hosts[1:]:
                with contextlib.suppress(NotPrimary):
                    super().connect_check_health(*args, **options)
                    return
            super().connect_check_health(*args, **options)

        def _connect(self) -> Any:
            for remaining in reversed(range(len(hosts))):
                self.host, self.port = hosts[self._number % len(hosts)]
                try:
                    return super()._connect()
                except (OSError, redis.ConnectionError, redis.TimeoutError):
                    if not remaining:
                        raise
                    self._number += 1
            raise AssertionError("the loop returns or raises")

        def disconnect(self, *args: Any, **options: Any) -> None:
            """Close it; the next connection goes to the next server. Closing it again changes nothing."""
            self._number += self._sock is not None
            super().disconnect(*args, **options)

    return Failover


def url_of_primary(url: str) -> str:
    """Of a list of URLs the one whose server takes writes now; any other URL as it is.

    Raises redis-py's errors where there is none.
    """
    if not is_list(url):
        return url
    with connect(url) as client:
        pool = client.connection_pool
        connection: Any = pool.get_connection()
        pool.release(connection)
    return url.split(";")[_hosts(url).index((connection.host, connection.port))]


def ping(url: str, variable: str, retry: float = BRIEF_RETRY) -> None:
    """Raise Unavailable or AccessRefused unless a Redis answers there that takes writes.

    A replica, a full Redis and one without enough replicas answer PING: so a key is written. They are given
    ``retry`` seconds, and so is a failover; a single server that cannot be reached at all is not.
    """
    with translated(url, variable):
        several = is_sentinel(url) or is_list(url)
        client = connect(url, TimedRetry(retry, None if several else min(retry, BRIEF_RETRY)))
        client.connection_pool.connection_kwargs["socket_timeout"] = FIRST_TIMEOUT
        try:
            client.set(step_key("ping", ""), "1", ex=1)
        finally:
            client.close()


def now(client: redis.Redis) -> float:
    """Redis's clock, since those of the hosts may differ."""
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)
