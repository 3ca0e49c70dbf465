"""Where a Postgres store is: connection options from ANYVAR_STORAGE_URI, and how messages call the place."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from anyvar_step.errors import ConfigurationError

#: Unless the URI says otherwise: seconds to connect, and to notice that the server's host is gone.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "tcp_user_timeout": 60000,
}


def options_of(uri: str) -> dict[str, Any]:
    """What to connect with. Raises ConfigurationError where the URI is none."""
    return {**_PATIENCE, "application_name": "anyvar-step", **_parts(uri)}


def place_of(options: dict[str, Any]) -> str:
    """The database for messages: never the URI, which holds a password."""
    host = options.get("host") or options.get("hostaddr") or "the local socket"
    port = f":{options['port']}" if "port" in options else ""
    return f"{options.get('dbname') or 'the default database'} at {host}{port}"


def _parts(uri: str) -> dict[str, Any]:
    """The URI's parts. No message quotes any of it: a password's @ or / cuts it in the wrong places."""
    try:
        options = conninfo_to_dict(uri)
    except psycopg.Error:
        options = {"port": "?"}
    whole = all("@" not in str(options.get(part, "")) for part in ("host", "dbname"))
    if whole and str(options.get("port", "0")).replace(",", "").isdigit():
        return options
    raise ConfigurationError(
        "ANYVAR_STORAGE_URI is not a URI that Postgres's client library understands",
        "Write postgresql://user:password@host:port/database, special characters in a password as %XX",
    )
