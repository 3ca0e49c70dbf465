"""PostgresStore: AnyVar's own tables, written by COPY into temporary tables and one INSERT for each table.

Server CPU per record (REF and ALT), measured on two cores: through temporary tables 65 µs, directly into the
tables 50 µs; selecting the unknown alleles first costs 6 µs, and saves 13 µs if all are known. The GiST index
and the foreign keys take half of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict

from anyvar_step.errors import AccessRefused, ConfigurationError, FileTrouble, StepError, Unavailable
from anyvar_step.models import KeptAllele
from anyvar_step.store import COLUMNS, Rows, Tables, check_columns, quoted, rows_of, statements

#: Connection options that the URI may override: seconds to connect, and to notice that the host is gone.
_DEFAULTS = {
    "application_name": "anyvar-step",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "tcp_user_timeout": 60000,
}


def _options_of(uri: str) -> dict[str, Any]:
    """The connection options of a URI.

    Raises ConfigurationError for a malformed one, without quoting it: an ``@`` or ``/`` in a password divides
    it in the wrong places.
    """
    try:
        options = conninfo_to_dict(uri)
    except psycopg.Error:
        options = {"port": "?"}
    whole = all("@" not in str(options.get(part, "")) for part in ("host", "dbname"))
    if whole and str(options.get("port", "0")).replace(",", "").isdigit():
        return {**_DEFAULTS, **options}
    raise ConfigurationError(
        "ANYVAR_STORAGE_URI is not a URI that Postgres's client library understands",
        "Write postgresql://user:password@host:port/database, special characters in a password as %XX",
    )


def _database_of(options: Mapping[str, Any]) -> str:
    """The database as messages name it: never by the URI, which holds a password."""
    host = options.get("host") or options.get("hostaddr") or "the local socket"
    port = f":{options['port']}" if "port" in options else ""
    return f"{options.get('dbname') or 'the default database'} at {host}{port}"


#: Errors that other sessions cause by what they do at the same time: they write the same rows, delete rows
#: (ForeignKeyViolation), or create the same type or table.
_CONFLICTS = (pg.SerializationFailure, pg.DeadlockDetected, pg.QueryCanceled, pg.ForeignKeyViolation)
_CREATED = (pg.UniqueViolation, pg.DuplicateTable, pg.DuplicateObject)
_FULL = (pg.DiskFull, pg.OutOfMemory, pg.ConfigurationLimitExceeded)
_CHANGED = (pg.UndefinedTable, pg.UndefinedColumn, pg.DatatypeMismatch, pg.NotNullViolation)
#: Postgres's errors, what they mean (``{}``: the database), and what to do. The first that fits counts.
_FAILURES: tuple[tuple[tuple[type[psycopg.Error], ...], type[StepError], str, str], ...] = (
    ((*_CONFLICTS, *_CREATED), Unavailable, "{} did not take the rows now", "Run it again"),
    (
        (pg.LockNotAvailable,),
        Unavailable,
        "another session holds a lock on the tables or rows in {}",
        "End what holds it (pg_locks shows it), or run it again later",
    ),
    (_FULL, FileTrouble, "{} has no room left", "Make room on the server, then run it again"),
    (
        (pg.ReadOnlySqlTransaction,),
        AccessRefused,
        "{} is read-only",
        "Name the primary server in ANYVAR_STORAGE_URI, not a standby",
    ),
    (
        (pg.InsufficientPrivilege,),
        AccessRefused,
        "{} refused the role a right",
        "Let the database's owner grant it",
    ),
    (
        _CHANGED,
        ConfigurationError,
        "the tables in {} were changed while they were in use",
        "Start the worker again: it makes a table that is missing, and names columns that do not fit",
    ),
)
#: The messages of a server that refuses a connection, in English and without a code. The first that fits
#: counts.
_REFUSALS: tuple[tuple[str, type[StepError], str, str], ...] = (
    (
        "too many connections|connection slots|too many clients",
        Unavailable,
        "{} takes no more connections",
        "Raise its limit or run fewer worker processes, two connections each; then run it again",
    ),
    (
        'database ".*" does not exist',
        ConfigurationError,
        "there is no {}",
        "Create it, or set ANYVAR_STORAGE_URI",
    ),
    (
        "password|pg_hba.conf|authentication failed|permission denied"
        '|role ".*" (does not exist|is not permitted to log in)',
        AccessRefused,
        "{} refused the connection",
        "Check user and password in ANYVAR_STORAGE_URI",
    ),
)


def explained(error: psycopg.Error, database: str) -> StepError:
    """The failure for an error of Postgres, with its message on one line and without a row or statement."""
    text = " ".join((error.diag.message_primary or str(error)).split())
    for errors, kind, what, remedy in _FAILURES:
        if isinstance(error, errors):
            return kind(f"{what.format(database)}: {text}", remedy)
    if not isinstance(error, psycopg.OperationalError):
        return StepError(f"{database} failed: {text}", "See the server's log")
    if error.sqlstate is None and "FATAL" in text:
        for words, kind, what, remedy in _REFUSALS:
            if re.search(words, text):
                return kind(f"{what.format(database)}: {text}", remedy)
    return Unavailable(
        f"no Postgres answers for {database}: {text}",
        "Start it, or set ANYVAR_STORAGE_URI; then run it again",
    )


@contextlib.contextmanager
def _watched(connection: psycopg.Connection[Any], options: Mapping[str, Any], every: float) -> Iterator[None]:
    """Shut the connection down if the server does not accept another one, tried ``every`` so many seconds.

    The block then fails as after any lost connection. A server that is only slow accepts connections.
    """
    ended = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:

        def watch() -> None:
            while not ended.wait(every):
                try:
                    psycopg.connect(**options).close()
                except pg.ConnectionTimeout:
                    with contextlib.suppress(OSError):  # it is closed already
                        duplicate.shutdown(socket.SHUT_RDWR)
                    return
                except psycopg.Error:  # a refusal is an answer
                    pass

        thread = threading.Thread(target=watch, name="store watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


#: The share of new alleles above which it costs more than it saves to select the unknown ones first.
_MOSTLY_NEW = 0.75
#: Postgres's names for the kinds of types.
_TYPES = {
    "text": "character varying",
    "integer": "integer",
    "molecule": "molecule_type",
    "json": "jsonb",
}


class PostgresStore:
    """See the protocol ``Store``. With two connections the server works while one waits for the client."""

    writers = 2

    def __init__(self, uri: str, tables: Tables, patience: float) -> None:
        self._options = _options_of(uri)
        self._limit = max(1.0, patience / 2)  # seconds to wait, so that there is time for a second try
        self._database = _database_of(self._options)
        self._tables = tables
        self._sql = statements("postgres", tables)
        self._connection: psycopg.Connection[Any] | None = None
        #: What the next batch is expected to have, by the last one: all new, some known, or most known.
        self._expect: Literal["new", "mixed", "known"] = "known"

    def prepare(self) -> None:
        """Create missing tables as AnyVar creates them; refuse a schema of another version."""
        with self._transaction() as cursor:
            cursor.execute(self._sql["lock_schema"])
            for table in COLUMNS:
                name = self._tables[table]
                if found := cursor.execute(self._sql["columns"], (quoted(name),)).fetchall():
                    remedy = "Let AnyVar 1.0 or newer make the tables in another database"
                    check_columns(table, f"{name} in {self._database}", found, _TYPES, remedy)
                else:
                    self._create(cursor, table)
            self._check_rights(cursor)

    def _create(self, cursor: psycopg.Cursor[Any], table: str) -> None:
        if table == "locations":
            self._create_extension(cursor)
        if table == "sequence_references":
            [has_type] = cursor.execute(self._sql["has_molecule_type"]).fetchone() or [False]
            if not has_type:
                cursor.execute(self._sql["create_molecule_type"])
        cursor.execute(self._sql[f"create_{table}"])
        if table == "locations":
            # The index has AnyVar's name on AnyVar's table, unless that name is taken.
            [taken] = cursor.execute(self._sql["has_locations_index"]).fetchone() or [False]
            own = taken or self._tables["locations"] != "locations"
            cursor.execute(self._sql["create_own_locations_index" if own else "create_locations_index"])

    def _create_extension(self, cursor: psycopg.Cursor[Any]) -> None:
        """Create btree_gist, which the index on locations needs and AnyVar expects to find."""
        try:
            cursor.execute(self._sql["create_extension"])
        except pg.InsufficientPrivilege:
            raise AccessRefused(
                f"the role may not create the extension btree_gist in {self._database}",
                "Let the database's owner run: CREATE EXTENSION btree_gist",
            ) from None
        except (pg.UndefinedFile, pg.FeatureNotSupported):
            raise ConfigurationError(
                f"the Postgres server of {self._database} has no extension btree_gist",
                "Install its contrib modules (postgresql-contrib) on the server",
            ) from None

    def _check_rights(self, cursor: psycopg.Cursor[Any]) -> None:
        names = [quoted(self._tables[table]) for table in COLUMNS]
        row = cursor.execute(self._sql["rights"], (names,)).fetchone()
        assert row is not None
        role, refuses_writes, refused, temporary = row
        if refuses_writes:
            raise explained(pg.ReadOnlySqlTransaction("cannot write"), self._database)
        if refused or not temporary:
            what = f"SELECT, INSERT on {refused}" if refused else "TEMPORARY on the database"
            raise AccessRefused(
                f"the role {role} lacks the right to {what} in {self._database}", f"GRANT {what}"
            )

    def write(self, alleles: Sequence[KeptAllele]) -> int:
        """Register alleles in one transaction; how many were new."""
        with self._transaction() as cursor:
            unknown = self._unknown(cursor, alleles) if self._expect == "known" else alleles
            if not unknown:
                return 0
            rows = rows_of(unknown)
            cursor.execute(self._sql["insert_sequence_references"], (",".join(rows.sequence_references),))
            direct = self._expect != "mixed" and len(unknown) == len(alleles)
            added = self._copy(cursor, rows) if direct else None
            if added is None:
                added = self._insert(cursor, rows)
        share = added / len(alleles)
        self._expect = "new" if share == 1 else "mixed" if share > _MOSTLY_NEW else "known"
        return added

    def _unknown(self, cursor: psycopg.Cursor[Any], alleles: Sequence[KeptAllele]) -> list[KeptAllele]:
        ids = ",".join([allele.id for allele in alleles])
        unknown = {row[0] for row in cursor.execute(self._sql["unknown"], (ids,))}
        return [allele for allele in alleles if allele.id in unknown]

    def _copy(self, cursor: psycopg.Cursor[Any], rows: Rows) -> int | None:
        """Write directly into the tables; None, and nothing is written, if a row exists already."""
        try:
            with cursor.connection.transaction():
                self._send(cursor, rows, "copy_new_locations", "copy_new_alleles")
                return cursor.rowcount
        except pg.UniqueViolation:
            return None

    def _insert(self, cursor: psycopg.Cursor[Any], rows: Rows) -> int:
        """Write through temporary tables; existing rows stay as they are."""
        cursor.execute(self._sql["begin_batch"])
        self._send(cursor, rows, "copy_locations", "copy_alleles")
        cursor.execute(self._sql["insert_locations"])
        return cursor.execute(self._sql["insert_alleles"]).rowcount

    def _send(self, cursor: psycopg.Cursor[Any], rows: Rows, locations: str, alleles: str) -> None:
        """Send the rows as COPY's text, in which identifiers and JSON of nucleotides need no escapes."""
        with cursor.copy(self._sql[locations]) as copy:
            copy.write("".join([f"{id_}\t{sq}\t{start}\t{end}\n" for id_, sq, start, end in rows.locations]))
        with cursor.copy(self._sql[alleles]) as copy:
            copy.write("".join([f"{id_}\t{place}\t{state}\n" for id_, place, state in rows.alleles]))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor in a transaction; a failure closes the connection, and Postgres's become StepErrors."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            with (
                _watched(self._connection, self._options, self._limit),
                self._connection.transaction(),
                self._connection.cursor() as cursor,
            ):
                cursor.execute(self._sql["limit_locks"], (f"{self._limit:.0f}s",))
                yield cursor
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise explained(error, self._database) from error
            raise

    def _connect(self) -> psycopg.Connection[Any]:
        # No prepared statements: they would save nothing here, and connection poolers do not know them.
        connection = psycopg.connect(**self._options, autocommit=True, prepare_threshold=None)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection
