"""PostgresStore: AnyVar's own tables, written by COPY into temporary tables and one INSERT for each table.

Measured on two cores with the server beside us, in server CPU per record (REF and ALT): by way of temporary
tables 65 µs, straight into the tables 50 µs; asking for the unknown alleles first costs 6 µs, and saves 13 µs
where all are known. Half is the GiST index and the foreign keys.
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
from anyvar_step.store import Tables
from anyvar_step.store.tables import COLUMNS, Rows, misfits, quoted, rows_of, statements

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


@contextlib.contextmanager
def watched(connection: psycopg.Connection[Any], options: Mapping[str, Any], every: float) -> Iterator[None]:
    """Cut the connection when the server, asked every so many seconds, does not even take another one.

    The block then fails as after any lost connection. A server that is only slow takes connections, and may
    take its time.
    """
    ended = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:

        def watch() -> None:
            while not ended.wait(every):
                if not _answers(options):
                    with contextlib.suppress(OSError):  # it is closed already
                        ours.shutdown(socket.SHUT_RDWR)
                    return

        thread = threading.Thread(target=watch, name="store watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _answers(options: Mapping[str, Any]) -> bool:
    """Whether the server says anything within the options' ``connect_timeout``, were it a refusal."""
    try:
        psycopg.connect(**options).close()
    except pg.ConnectionTimeout:
        return False
    except psycopg.Error:
        return True
    return True


#: What the next batch is likely to hold, judged by the last one: all new, some known, or most known.
Expectation = Literal["new", "mixed", "known"]
#: The share of new alleles above which it does not pay to ask for the unknown ones first.
MIXED = 0.75
#: Its names of the kinds of types.
_TYPES = {
    "text": "character varying",
    "integer": "integer",
    "molecule": "molecule_type",
    "json": "jsonb",
}


class PostgresStore:
    """See the protocol ``Store``. Two connections keep the server busy while one waits for its client."""

    writers = 2

    def __init__(self, uri: str, tables: Tables, patience: float) -> None:
        self._options = options_of(uri)
        self._limit = max(1.0, patience / 2)  # seconds to wait in vain, with time left for a second try
        self._place = place_of(self._options)
        self._tables = tables
        self._sql = statements("postgres", tables)
        self._connection: psycopg.Connection[Any] | None = None
        self._expect: Expectation = "known"

    def prepare(self) -> None:
        """Create missing tables as AnyVar creates them; refuse a schema of another version."""
        with self._transaction() as cursor:
            cursor.execute(self._sql["lock_schema"])
            for table in COLUMNS:
                self._prepare_table(cursor, table)
            self._check_rights(cursor)

    def _prepare_table(self, cursor: psycopg.Cursor[Any], table: str) -> None:
        name: str = getattr(self._tables, table)
        found = cursor.execute(self._sql["columns"], (quoted(name),)).fetchall()
        if not found:
            self._create(cursor, table)
            return
        if wrong := misfits(table, found, _TYPES):
            raise ConfigurationError(
                f"the table {name} in {self._place} was made by another version of AnyVar: it has {wrong}",
                "Let AnyVar 1.0 or newer make the tables in another database, or set "
                f"ANYVAR_{table.upper()}_TABLE_NAME",
            )

    def _create(self, cursor: psycopg.Cursor[Any], table: str) -> None:
        if table == "locations":
            self._create_extension(cursor)
        if table == "sequence_references":
            [has_type] = cursor.execute(self._sql["has_molecule_type"]).fetchone() or [False]
            if not has_type:
                cursor.execute(self._sql["create_molecule_type"])
        cursor.execute(self._sql[f"create_{table}"])
        if table == "locations":
            self._create_index(cursor)

    def _create_index(self, cursor: psycopg.Cursor[Any]) -> None:
        """The index on locations, under AnyVar's name where that is for AnyVar's table and is not taken."""
        [taken] = cursor.execute(self._sql["has_locations_index"]).fetchone() or [False]
        own = taken or self._tables.locations != Tables.locations
        cursor.execute(self._sql["create_own_locations_index" if own else "create_locations_index"])

    def _create_extension(self, cursor: psycopg.Cursor[Any]) -> None:
        """The index on locations needs btree_gist, which AnyVar itself expects to find."""
        try:
            cursor.execute(self._sql["create_extension"])
        except pg.InsufficientPrivilege:
            raise AccessRefused(
                f"the role may not create the extension btree_gist in {self._place}",
                "Let the database's owner run: CREATE EXTENSION btree_gist",
            ) from None
        except (pg.UndefinedFile, pg.FeatureNotSupported):
            raise ConfigurationError(
                f"the Postgres server of {self._place} has no extension btree_gist",
                "Install its contrib modules (postgresql-contrib) on the server",
            ) from None

    def _check_rights(self, cursor: psycopg.Cursor[Any]) -> None:
        names = [quoted(getattr(self._tables, table)) for table in COLUMNS]
        row = cursor.execute(self._sql["rights"], (names,)).fetchone()
        assert row is not None
        role, refuses_writes, refused, temporary = row
        if refuses_writes:
            raise read_only(self._place)
        if refused or not temporary:
            what = f"SELECT, INSERT on {refused}" if refused else "TEMPORARY on the database"
            raise AccessRefused(
                f"the role {role} lacks the right to {what} in {self._place}", f"GRANT {what}"
            )

    def write(self, alleles: Sequence[KeptAllele]) -> int:
        """Register alleles in one transaction; how many were new."""
        with self._transaction() as cursor:
            unknown = self._unknown(cursor, alleles) if self._expect == "known" else alleles
            if not unknown:
                return 0
            rows = rows_of(unknown)
            cursor.execute(self._sql["insert_sequence_references"], (",".join(rows.sequence_references),))
            straight = self._expect != "mixed" and len(unknown) == len(alleles)
            added = self._copy(cursor, rows) if straight else None
            if added is None:
                added = self._insert(cursor, rows)
        share = added / len(alleles)
        self._expect = "new" if share == 1 else "mixed" if share > MIXED else "known"
        return added

    def _unknown(self, cursor: psycopg.Cursor[Any], alleles: Sequence[KeptAllele]) -> Sequence[KeptAllele]:
        ids = ",".join([allele.id for allele in alleles])
        unknown = {row[0] for row in cursor.execute(self._sql["unknown"], (ids,))}
        if len(unknown) == len(alleles):
            return alleles
        return [allele for allele in alleles if allele.id in unknown] if unknown else []

    def _copy(self, cursor: psycopg.Cursor[Any], rows: Rows) -> int | None:
        """Straight into the tables; None, and nothing is written, where a row is there already."""
        try:
            with cursor.connection.transaction():
                self._send(cursor, rows, "copy_new_locations", "copy_new_alleles")
                return cursor.rowcount
        except pg.UniqueViolation:
            return None

    def _insert(self, cursor: psycopg.Cursor[Any], rows: Rows) -> int:
        """By way of temporary tables; rows that are there already stay as they are."""
        cursor.execute(self._sql["begin_batch"])
        self._send(cursor, rows, "copy_locations", "copy_alleles")
        cursor.execute(self._sql["insert_locations"])
        return cursor.execute(self._sql["insert_alleles"]).rowcount

    def _send(self, cursor: psycopg.Cursor[Any], rows: Rows, locations: str, alleles: str) -> None:
        """The rows as COPY's text: identifiers and JSON of nucleotides hold nothing that it escapes."""
        with cursor.copy(self._sql[locations]) as copy:
            copy.write("".join([f"{id_}\t{sq}\t{start}\t{end}\n" for id_, sq, start, end in rows.locations]))
        with cursor.copy(self._sql[alleles]) as copy:
            copy.write("".join([f"{id_}\t{place}\t{state}\n" for id_, place, state in rows.alleles]))

    def close(self) -> None:
        """Give back the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- connection and failures -------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor in a transaction of its own; a failure closes the connection and comes out as ours."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            with (
                watched(self._connection, self._options, self._limit),
                self._connection.transaction(),
                self._connection.cursor() as cursor,
            ):
                cursor.execute(self._sql["limit_locks"], (f"{self._limit:.0f}s",))
                yield cursor
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise explained(error, self._place) from error
            raise

    def _connect(self) -> psycopg.Connection[Any]:
        # No prepared statements: the few that there are cost nothing, and poolers do not know them.
        connection = psycopg.connect(**self._options, autocommit=True, prepare_threshold=None)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection
