"""PostgresStore: AnyVar's own tables, written by COPY into temporary tables and one INSERT for each table.

Measured on two cores with the server beside us, in server CPU per record (REF and ALT): by way of temporary
tables 65 µs, straight into the tables 50 µs; asking for the unknown alleles first costs 6 µs, and saves 13 µs
where all are known. Half is the GiST index and the foreign keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import psycopg
from psycopg import errors as pg

from anyvar_step.errors import AccessRefused, ConfigurationError
from anyvar_step.models import KeptAllele
from anyvar_step.store import Tables
from anyvar_step.store.columns import COLUMNS, misfits
from anyvar_step.store.postgres_failures import explained, read_only
from anyvar_step.store.postgres_uri import options_of, place_of
from anyvar_step.store.postgres_watch import watched
from anyvar_step.store.rows import Rows, rows_of
from anyvar_step.store.statements import quoted, statements

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
