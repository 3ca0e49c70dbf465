"""DuckDbStore: AnyVar's tables in one DuckDB file.

Only one process can have the file open, so it is opened for each batch and closed after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from anyvar_step.errors import (
    AccessRefused,
    ConfigurationError,
    FileTrouble,
    InputNotFound,
    StepError,
    Unavailable,
)
from anyvar_step.models import KeptAllele
from anyvar_step.store import COLUMNS, Rows, Tables, check_columns, rows_of, statements

_PREFIX = "duckdb:///"
#: DuckDB's names for the kinds of types.
_TYPES = {
    "text": "VARCHAR",
    "integer": "INTEGER",
    "molecule": "ENUM('genomic', 'RNA', 'mRNA', 'protein')",
    "json": "JSON",
}


class DuckDbStore:
    """See the protocol ``Store``. The URI has SQLAlchemy's form: the path follows ``duckdb:///``."""

    writers = 1

    def __init__(self, uri: str, tables: Tables) -> None:
        path = uri.removeprefix(_PREFIX).partition("?")[0]
        if not uri.startswith(_PREFIX) or not path or path.startswith(":"):
            raise ConfigurationError(
                f"ANYVAR_STORAGE_URI={uri} names no file",
                "Write duckdb:///file.duckdb, or duckdb:////folder/file.duckdb for an absolute path",
            )
        self._path = Path(path)
        self._tables = tables
        self._sql = statements("duckdb", tables)

    def prepare(self) -> None:
        """Create missing tables as AnyVar creates them; refuse a schema of another version."""
        if not self._path.absolute().parent.is_dir():
            raise InputNotFound(
                f"the folder of the DuckDB file {self._path} does not exist",
                f"Make it, or write four slashes before an absolute path: {_PREFIX}/{self._path}",
            )
        with self._transaction() as connection:
            connection.execute(self._sql["create_molecule_type"])
            for table in COLUMNS:
                name = self._tables[table]
                if found := connection.execute(self._sql["columns"], {"name": name}).fetchall():
                    check_columns(table, f"{name} in {self._path}", found, _TYPES, "Name another file")
                else:
                    connection.execute(self._sql[f"create_{table}"])

    def write(self, alleles: Sequence[KeptAllele]) -> int:
        """Register alleles in one transaction; how many were new."""
        with self._transaction() as connection:
            ids = ",".join([allele.id for allele in alleles])
            unknown = {row[0] for row in connection.execute(self._sql["unknown"], {"ids": ids}).fetchall()}
            if not unknown:
                return 0
            return self._insert(connection, rows_of(allele for allele in alleles if allele.id in unknown))

    def _insert(self, connection: duckdb.DuckDBPyConnection, rows: Rows) -> int:
        """Insert rows; a column is sent as one text, which is a hundred times faster than row by row."""
        sequences = {"ids": ",".join(rows.sequence_references)}
        connection.execute(self._sql["insert_sequence_references"], sequences)
        ids, accessions, starts, ends = (
            ",".join(map(str, column)) for column in zip(*rows.locations, strict=True)
        )
        locations = {"ids": ids, "sequences": accessions, "starts": starts, "ends": ends}
        connection.execute(self._sql["insert_locations"], locations)
        names, places, states = zip(*rows.alleles, strict=True)
        columns = {"ids": ",".join(names), "locations": ",".join(places), "states": "\n".join(states)}
        [added] = connection.execute(self._sql["insert_alleles"], columns).fetchone() or (0,)
        return int(added)

    def close(self) -> None:
        """Do nothing: the file is closed between two batches."""

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, open, in a transaction; DuckDB's errors become StepErrors."""
        try:
            with duckdb.connect(str(self._path)) as connection:
                connection.begin()
                yield connection
                connection.commit()
        except duckdb.Error as error:
            raise explained(error, self._path) from error


#: Parts of DuckDB's messages about its file, and what they mean.
_FILE_ERRORS: tuple[tuple[str, type[StepError], str], ...] = (
    ("Could not set lock", Unavailable, "Another process has the file open: end it, or run this again later"),
    ("already attached", Unavailable, "Another thread has the file open: run this again later"),
    ("No space left", FileTrouble, "Make room, then run it again"),
    ("Permission denied", AccessRefused, "Check the owner and mode of the file and its folder"),
    ("Read-only file system", AccessRefused, "Name a file that can be written"),
    ("not a valid DuckDB", ConfigurationError, "Name another file"),
)


def explained(error: duckdb.Error, path: Path) -> StepError:
    """The failure for an error of DuckDB, whose messages hold no secret."""
    text, file = " ".join(str(error).split()), f"the DuckDB file {path}"
    for part, kind, remedy in _FILE_ERRORS:
        if part in text:
            return kind(f"{file} cannot be used: {text}", remedy)
    if isinstance(error, duckdb.TransactionException | duckdb.ConstraintException):
        return Unavailable(f"{file} did not take the rows now: {text}", "Run it again")
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return ConfigurationError(
            f"the tables in {path} are not those of AnyVar: {text}", "Name another file"
        )
    if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
        return FileTrouble(f"{file} failed: {text}", "Check its disk, then run it again")
    return StepError(f"{file} failed: {text}", "Please report this")
