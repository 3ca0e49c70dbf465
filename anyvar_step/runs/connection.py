"""One Redis connection: where it leads, how long it is tried, and what its failures are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from anyvar_step.errors import AccessRefused, ConfigurationError, Unavailable
from anyvar_step.settings import masked

#: Tries after the first: none where we are told to end, those that bridge a dropped connection (0.4 s), and
#: an outage of Redis (a minute).
HASTY, QUICK, PATIENT = 0, 3, 64
#: Seconds until a Redis that does not answer counts as unreachable.
CONNECT_TIMEOUT = 5.0

#: A Redis that expects no TLS waits for the rest of what it takes for a command.
_PORT = " (is that its TLS port?)"


def redis_url(celery_url: str) -> str:
    """The URL in redis-py's form: Celery writes ``redis+socket:///path?virtual_host=0`` for a socket."""
    parts = urlsplit(celery_url)
    if parts.scheme != "redis+socket":
        return celery_url
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")
    return f"unix://{parts.netloc}{parts.path}?db={database}"


@contextmanager
def reaching(url: str, variable: str) -> Iterator[None]:
    """Turns redis-py's exceptions into ours, naming the URL without its password and its variable."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise AccessRefused(
            f"Redis at {masked(url)} refused us: {error}", _rights(error, variable)
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if (trouble := _with_tls(url, variable, str(error))) is not None:
            raise trouble from error
        raise Unavailable(
            f"no Redis answers at {masked(url)}: {error}",
            f"Start it, or set {variable}{_PORT if url.startswith('rediss:') else ''}; without any server, "
            "use --local",
        ) from error
    except redis.RedisError as error:
        raise Unavailable(f"Redis at {masked(url)} failed: {error}", "See its log") from error


def _rights(error: redis.RedisError, variable: str) -> str:
    """What helps a user whom Redis does not know, or knows and denies something."""
    if isinstance(error, redis.exceptions.NoPermissionError):
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


def celery_url(url: str) -> str:
    """The URL for Celery, which asks that rediss:// says whether certificates are checked: they are."""
    if not url.startswith("rediss:") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}ssl_cert_reqs=required"


def connect(url: str, tries: int = QUICK) -> redis.Redis:
    """One connection, opened at first use; tries after the first are up to a second apart.

    A Redis that takes connections and does not answer counts as away after 15 s for each try, 3 s if HASTY.

    One, since it is used by one thread. The pool is not limited to it: a signal in the wrong moment loses
    a connection, and cancelling the run would then find none.
    """
    return redis.Redis.from_url(
        redis_url(url),
        decode_responses=True,
        encoding_errors="backslashreplace",
        single_connection_client=False,
        socket_connect_timeout=3 if tries == HASTY else CONNECT_TIMEOUT,
        socket_timeout=3 if tries == HASTY else 15,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), tries),
    )


def ping(url: str, variable: str) -> None:
    """Raise Unavailable or AccessRefused unless a Redis answers there."""
    with reaching(url, variable):
        client = connect(url)
        try:
            client.ping()
        finally:
            client.close()


def now(client: redis.Redis) -> float:
    """Redis's clock, since those of the hosts may differ."""
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)
