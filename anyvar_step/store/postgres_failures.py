"""What went wrong in Postgres, in the user's words: what may pass, and what to do about the rest."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors as pg

from anyvar_step.errors import AccessRefused, ConfigurationError, FileTrouble, StepError, Unavailable

#: What may pass when it is tried again, beside a lost connection.
_PASSING = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.QueryCanceled,
    pg.ForeignKeyViolation,  # somebody deletes rows meanwhile
    pg.UniqueViolation,  # somebody creates the same type meanwhile, or table
    pg.DuplicateTable,
    pg.DuplicateObject,
)
_FULL = (pg.DiskFull, pg.OutOfMemory, pg.ConfigurationLimitExceeded)
_OTHER_SCHEMA = (pg.UndefinedTable, pg.UndefinedColumn, pg.DatatypeMismatch, pg.NotNullViolation)
#: What the server answers to a connection, without a code of its own: it has too many, or refuses this one.
_CROWDED = re.compile("too many connections|connection slots|too many clients")
_ABSENT = re.compile('database ".*" does not exist')
_REFUSED = re.compile(
    "password|pg_hba.conf|authentication failed|permission denied"
    '|role ".*" (does not exist|is not permitted to log in)'
)


def explained(error: psycopg.Error, place: str) -> StepError:
    """The failure as one of ours; ``place`` names the database."""
    text = _one_line(error)
    if isinstance(error, _PASSING):
        return Unavailable(f"{place} put off our rows: {text}", "Run it again")
    if isinstance(error, pg.LockNotAvailable):
        return Unavailable(
            f"somebody holds a lock on our tables or rows in {place}: {text}",
            "End what holds it (pg_locks tells), or run it again later",
        )
    if isinstance(error, _FULL):
        return FileTrouble(f"{place} has no room left: {text}", "Make room on the server, then run it again")
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return read_only(place)
    if isinstance(error, pg.InsufficientPrivilege):
        return AccessRefused(f"{place} refused us: {text}", "Let the database's owner grant the right")
    if isinstance(error, _OTHER_SCHEMA):
        return ConfigurationError(
            f"the tables in {place} were changed under us: {text}",
            "Start the worker again: it makes a table that is missing, and names columns that do not fit",
        )
    if isinstance(error, psycopg.OperationalError):
        return _unreachable(error, text, place)
    return StepError(f"{place} failed: {text}", "See the server's log")


def read_only(place: str) -> AccessRefused:
    """The database takes no writes."""
    return AccessRefused(
        f"{place} is read-only", "Name the primary server in ANYVAR_STORAGE_URI, not a standby"
    )


def _unreachable(error: psycopg.OperationalError, text: str, place: str) -> StepError:
    """No connection, or no longer. The server's words are those of its language: English is understood."""
    if error.sqlstate is None and "FATAL" in text:
        if _CROWDED.search(text):
            return Unavailable(
                f"{place} takes no more connections: {text}",
                "Raise its limit or run fewer worker processes, two connections each; then run it again",
            )
        if _ABSENT.search(text):
            return ConfigurationError(f"there is no {place}: {text}", "Create it, or set ANYVAR_STORAGE_URI")
        if _REFUSED.search(text):
            return AccessRefused(
                f"{place} refused us: {text}", "Check user and password in ANYVAR_STORAGE_URI"
            )
    return Unavailable(
        f"no Postgres answers for {place}: {text}", "Start it, or set ANYVAR_STORAGE_URI; then run it again"
    )


def _one_line(error: psycopg.Error) -> str:
    """The server's words on one line, without a row's content or the statement."""
    primary = error.diag.message_primary or str(error)
    return " ".join(primary.split())
