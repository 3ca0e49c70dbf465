"""What every store does with a batch of alleles: DuckDB in all test runs, Postgres with `services`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Postgres, private_postgres

from anyvar_step.errors import (
    AccessRefused,
    ConfigurationError,
    FileTrouble,
    InputNotFound,
    StepError,
    Unavailable,
)
from anyvar_step.models import KeptAllele
from anyvar_step.settings import load
from anyvar_step.store import Store, open_store
from anyvar_step.store.registrar import Registrar

ACCESSION = "SQ." + "s" * 32
Row = tuple[Any, ...]


def allele(number: int, **others: Any) -> KeptAllele:
    """A made-up allele; two of them share a location."""
    place = number // 2
    literal = {"sequence": "G", "length": None, "repeat_subunit_length": None}
    return KeptAllele(
        f"ga4gh:VA.{number:032d}",
        f"ga4gh:SL.{place:032d}",
        ACCESSION,
        place,
        place + 1,
        **{**literal, **others},
    )


def open_uri(uri: str, **settings: Any) -> Store:
    """The store of that ANYVAR_STORAGE_URI, with these fields of the settings."""
    return open_store(load({"ANYVAR_STORAGE_URI": uri}, **settings))


def tables(alleles: str, locations: str, sequence_references: str) -> dict[str, str]:
    """The settings that name the tables."""
    return {
        "alleles_table": alleles,
        "locations_table": locations,
        "sequence_references_table": sequence_references,
    }


def prepare(uri: str, **settings: Any) -> None:
    """What a worker does before its first run."""
    store = open_uri(uri, **settings)
    store.prepare()
    store.close()


def registrar_for(uri: str) -> Registrar:
    return Registrar(lambda: open_uri(uri), patience=60)


class Alleles(list[KeptAllele]):
    """A block as the annotator gives it."""

    @property
    def digests(self) -> list[bytes]:
        return [each.id[9:33].encode() + each.id[-8:].encode() for each in self]


class StoreContract:
    """To be inherited: fixtures ``uri`` and ``rows``."""

    @pytest.fixture
    def store(self, uri: str) -> Iterator[Store]:
        opened = open_uri(uri)
        opened.prepare()
        yield opened
        opened.close()

    def test_the_rows_are_those_of_anyvar(self, store: Store, rows: Any) -> None:
        found = [
            allele(0, sequence="ACA", length=3, repeat_subunit_length=2),
            allele(1),
            allele(2, sequence=None, length=51, repeat_subunit_length=1),
            allele(3, sequence="", length=0, repeat_subunit_length=4),
        ]
        assert store.write(found) == 4
        assert rows("sequence_references") == [(ACCESSION, None)]
        assert rows("locations") == [
            (found[0].location_id, ACCESSION, 0, 1, None, None, None, None),
            (found[2].location_id, ACCESSION, 1, 2, None, None, None, None),
        ]
        states = [json.loads(state) if isinstance(state, str) else state for *_, state in rows("alleles")]
        assert [row[:2] for row in rows("alleles")] == [(each.id, each.location_id) for each in found]
        assert states == [
            {"type": "ReferenceLengthExpression", "length": 3, "sequence": "ACA", "repeatSubunitLength": 2},
            {"type": "LiteralSequenceExpression", "sequence": "G"},
            {"type": "ReferenceLengthExpression", "length": 51, "repeatSubunitLength": 1},
            {"type": "ReferenceLengthExpression", "length": 0, "sequence": "", "repeatSubunitLength": 4},
        ]

    def test_what_is_there_is_not_added_again(self, store: Store, rows: Any) -> None:
        assert store.write([allele(n) for n in range(10)]) == 10
        before = rows("alleles")
        assert store.write([allele(n) for n in range(10)]) == 0
        assert store.write([allele(n) for n in range(4, 14)]) == 4
        assert store.write([allele(n) for n in range(20)]) == 6
        assert len(rows("alleles")) == 20
        assert len(rows("locations")) == 10
        assert rows("alleles")[:10] == before

    def test_each_batch_is_added_whatever_the_one_before_it_held(self, store: Store, rows: Any) -> None:
        """All new, then overlapping, mostly new, all new again, a new allele at a known place, all known."""
        spans = [(0, 100), (100, 200), (150, 250), (240, 400), (400, 501), (501, 502), (0, 502)]
        added = [store.write([allele(n) for n in range(*span)]) for span in spans]
        assert added == [100, 100, 50, 150, 101, 1, 0]
        assert len(rows("alleles")) == 502
        assert len(rows("locations")) == 251

    def test_repeats_within_a_batch_are_one(self, store: Store, rows: Any) -> None:
        assert store.write([allele(1), allele(1), allele(0)]) == 2
        assert len(rows("alleles")) == 2

    def test_a_store_is_prepared_again_without_harm(self, uri: str, rows: Any) -> None:
        for _ in range(2):
            prepare(uri)
            opened = open_uri(uri)
            opened.write([allele(0)])
            opened.close()
        assert len(rows("alleles")) == 1

    def test_tables_have_the_names_that_were_asked_for(self, uri: str, rows: Any) -> None:
        opened = open_uri(uri, **tables("My_Alleles", "my_locations", "my_sequences"))
        opened.prepare()
        assert opened.write([allele(0), allele(1)]) == 2
        opened.close()
        assert len(rows("My_Alleles")) == 2
        assert len(rows("my_locations")) == len(rows("my_sequences")) == 1

    def test_a_table_of_another_version_is_refused(self, uri: str, run: Any) -> None:
        run("CREATE TABLE locations (id VARCHAR PRIMARY KEY, start_pos INTEGER, body VARCHAR NOT NULL)")
        with pytest.raises(
            ConfigurationError, match=r"locations .*another version of AnyVar.*end_pos"
        ) as refused:
            prepare(uri)
        assert "a column body that must not be empty" in str(refused.value)

    def test_a_registration_writes_every_allele_once(self, uri: str, rows: Any) -> None:
        prepare(uri)
        registrar = registrar_for(uri)
        registration = registrar.begin("run 1")
        for start in range(0, 50_000, 500):
            registration.add(Alleles(allele(n) for n in range(start, start + 520)))
        registration.finish()
        assert (registration.alleles, registration.added) == (50_020, 50_020)
        again = registrar.begin("run 1")
        again.add(Alleles(allele(n) for n in range(1000)))
        again.finish()
        assert (again.alleles, again.added) == (1000, 0)
        registrar.close()
        assert len(rows("alleles")) == 50_020

    def test_what_is_left_to_the_registrar_is_written_when_it_closes(self, uri: str, rows: Any) -> None:
        prepare(uri)
        registrar = registrar_for(uri)
        registration = registrar.begin("run 1")
        registration.add(Alleles(allele(n) for n in range(30_000)))
        registration.detach()
        registrar.close()
        assert len(rows("alleles")) == 30_000

    def test_rows_that_somebody_deletes_come_back_with_the_next_run(
        self, uri: str, rows: Any, run: Any
    ) -> None:
        prepare(uri)
        registrar = registrar_for(uri)
        for _ in range(2):
            registration = registrar.begin("run 1")
            registration.add(Alleles(allele(n) for n in range(100)))
            registration.finish()
            assert len(rows("alleles")) == 100
            run("DELETE FROM alleles")
        registrar.close()

    def test_writers_of_the_same_alleles_do_not_disturb_each_other(self, uri: str, rows: Any) -> None:
        prepare(uri)
        failures: list[StepError] = []

        def work(first: int) -> None:
            registrar = registrar_for(uri)
            registration = registrar.begin("run 1")
            try:
                for start in range(first, 6000, 500):
                    registration.add(Alleles(allele(n) for n in reversed(range(start, start + 500))))
                registration.finish()
            except StepError as error:
                failures.append(error)
            registrar.close()

        threads = [threading.Thread(target=work, args=(500 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(rows("alleles")) == 6000
        assert len(rows("locations")) == 3000


class TestDuckDb(StoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "alleles.duckdb"

    @pytest.fixture
    def uri(self, path: Path) -> str:
        return f"duckdb:///{path}"

    @pytest.fixture
    def run(self, path: Path) -> Any:
        import duckdb

        def run(statement: str) -> list[Row]:
            with duckdb.connect(str(path)) as connection:
                return connection.execute(statement).fetchall()

        return run

    @pytest.fixture
    def rows(self, run: Any) -> Any:
        return lambda table: run(f'SELECT * FROM "{table}" ORDER BY 1')

    def test_a_relative_path_is_below_the_current_folder(self, tmp_path: Path) -> None:
        prepare("duckdb:///here.duckdb")
        assert (tmp_path / "here.duckdb").is_file()  # the tests run in tmp_path

    def test_a_folder_that_is_not_there(self) -> None:
        with pytest.raises(InputNotFound, match="four slashes"):
            prepare("duckdb:///data/alleles.duckdb")

    @pytest.mark.parametrize("uri", ["duckdb:///:memory:", "duckdb:///", "duckdb://host/file"])
    def test_a_uri_without_a_file(self, uri: str) -> None:
        with pytest.raises(ConfigurationError, match="names no file"):
            open_uri(uri)

    def test_a_file_of_another_kind(self, path: Path, uri: str) -> None:
        path.write_text("no database\n" * 1000)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            prepare(uri)

    def test_a_file_that_another_process_holds_is_waited_for(
        self, path: Path, uri: str, store: Store
    ) -> None:
        import subprocess
        import sys

        hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            with pytest.raises(Unavailable, match="Another process"):
                store.write([allele(0)])
            registrar = registrar_for(uri)
            registration = registrar.begin("run 1")
            registration.add(Alleles([allele(0)]))
            threading.Timer(0.5, holder.communicate).start()
            registration.finish()
            assert registration.added == 1
            registrar.close()


@pytest.mark.services
class TestPostgres(StoreContract):
    @pytest.fixture
    def database(self, postgres: Postgres) -> Iterator[str]:
        with postgres.database() as name:
            yield name

    @pytest.fixture
    def uri(self, postgres: Postgres, database: str) -> str:
        return postgres.uri(database)

    @pytest.fixture
    def run(self, uri: str) -> Any:
        import psycopg

        def run(statement: str) -> list[Row]:
            with psycopg.connect(uri, autocommit=True) as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else []

        return run

    @pytest.fixture
    def rows(self, run: Any) -> Any:
        return lambda table: run(f'SELECT * FROM "{table}" ORDER BY 1')

    def test_a_database_that_is_not_there(self, postgres: Postgres) -> None:
        with pytest.raises(ConfigurationError, match="does not exist"):
            prepare(postgres.uri("nowhere"))

    def test_a_wrong_password(self, postgres: Postgres, database: str, run: Any) -> None:
        run("DROP ROLE IF EXISTS guarded")
        run("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        with pytest.raises(AccessRefused, match="ANYVAR_STORAGE_URI") as refused:
            prepare(postgres.uri(database, "guarded", "wr0ng"))
        assert "wr0ng" not in str(refused.value)

    def test_a_server_that_is_down(self) -> None:
        with pytest.raises(Unavailable, match="no Postgres answers") as refused:
            prepare("postgresql://u:secret@localhost:1/d")
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "uri", ["postgresql://u:se/cret@h/d", "postgresql://u:12/s@h/d", "postgresql://h:x/d"]
    )
    def test_a_uri_with_unescaped_characters_is_refused_without_showing_it(self, uri: str) -> None:
        with pytest.raises(ConfigurationError, match="%XX") as refused:
            open_uri(uri)
        assert "cret" not in str(refused.value)

    def test_a_role_without_rights(self, postgres: Postgres, database: str, run: Any) -> None:
        run("DROP ROLE IF EXISTS guest")
        run("CREATE ROLE guest LOGIN")
        with pytest.raises(AccessRefused, match="permission denied"):
            prepare(postgres.uri(database, "guest"))
        prepare(postgres.uri(database))
        with pytest.raises(AccessRefused, match="GRANT SELECT, INSERT on"):
            prepare(postgres.uri(database, "guest"))
        run("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO guest")
        guest = open_uri(postgres.uri(database, "guest"))
        guest.prepare()
        assert guest.write([allele(0)]) == 1
        guest.close()

    def test_a_role_that_may_not_make_the_extension(
        self, postgres: Postgres, database: str, run: Any
    ) -> None:
        run("DROP ROLE IF EXISTS maker")
        run("CREATE ROLE maker LOGIN")
        run("GRANT CREATE ON SCHEMA public TO maker")
        with pytest.raises(AccessRefused, match="CREATE EXTENSION btree_gist"):
            prepare(postgres.uri(database, "maker"))
        run("CREATE EXTENSION btree_gist")
        maker = open_uri(postgres.uri(database, "maker"))
        maker.prepare()
        assert maker.write([allele(0)]) == 1
        maker.close()

    def test_other_tables_beside_those_of_anyvar(self, uri: str, rows: Any) -> None:
        prepare(uri)
        prepare(uri, **tables("my_alleles", "my_locations", "my_sequences"))
        prepare(uri, **tables("my_alleles", "other_locations", "my_sequences"))
        assert rows("my_locations") == rows("other_locations") == []

    def test_anyvars_tables_beside_others_that_have_its_indexs_name(self, uri: str, run: Any) -> None:
        run("CREATE TABLE old_locations (id VARCHAR)")
        run("CREATE INDEX ix_location_ref_overlap ON old_locations (id)")
        prepare(uri)
        [index] = run(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'locations' AND indexname <> 'locations_pkey'"
        )
        assert "USING gist" in index[0]

    def test_a_locked_table_is_waited_for_and_named_when_patience_ends(self, uri: str) -> None:
        import psycopg

        prepare(uri)
        hasty = open_uri(uri, store_patience=1)
        with psycopg.connect(uri) as other:
            other.execute("LOCK TABLE alleles IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Unavailable, match="holds a lock on the tables"):
                hasty.write([allele(0)])
        assert hasty.write([allele(0)]) == 1
        hasty.close()

    @pytest.mark.parametrize(
        ("crowd", "words"),
        [
            ("ALTER ROLE crowded CONNECTION LIMIT 0", "too many connections for role"),
            ("ALTER DATABASE {database} CONNECTION LIMIT 0", "too many connections for database"),
        ],
    )
    def test_too_many_connections_may_pass(
        self, postgres: Postgres, database: str, run: Any, crowd: str, words: str
    ) -> None:
        run("DROP ROLE IF EXISTS crowded")
        run("CREATE ROLE crowded LOGIN")
        run(crowd.format(database=database))
        with pytest.raises(Unavailable, match=words):
            prepare(postgres.uri(database, "crowded"))

    def test_a_role_that_is_not_there_or_may_not_log_in(
        self, postgres: Postgres, database: str, run: Any
    ) -> None:
        run("DROP ROLE IF EXISTS silent")
        run("CREATE ROLE silent NOLOGIN")
        for role in ("silent", "absent", "database"):
            with pytest.raises(AccessRefused, match="user and password"):
                prepare(postgres.uri(database, role))

    def test_a_table_that_somebody_removes_meanwhile_is_named(self, store: Store, run: Any) -> None:
        run("DROP TABLE alleles")
        with pytest.raises(
            ConfigurationError, match=r'changed while they were in use: .*"alleles".* Start the worker'
        ):
            store.write([allele(0)])

    def test_a_read_only_database(self, database: str, uri: str, run: Any) -> None:
        prepare(uri)
        run(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        with pytest.raises(AccessRefused, match="read-only"):
            prepare(uri)

    def test_a_lost_connection_is_made_again(self, store: Store, rows: Any, run: Any) -> None:
        assert store.write([allele(0)]) == 1
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'anyvar-step'")
        with pytest.raises(Unavailable):
            store.write([allele(1)])
        assert store.write([allele(1)]) == 1
        assert len(rows("alleles")) == 2

    def test_a_server_that_hangs_is_given_up_and_back_when_it_goes_on(self) -> None:
        with private_postgres() as server:
            uri = f"{server.uri()}&connect_timeout=2"
            prepare(uri)
            store = open_uri(uri, store_patience=2)
            assert store.write([allele(0)]) == 1
            with server.hanging(), pytest.raises(Unavailable, match="no Postgres answers"):
                store.write([allele(1)])
            assert store.write([allele(1)]) == 1
            store.close()

    def test_a_slow_server_is_not_given_up(self, uri: str) -> None:
        """It takes connections: what a batch waits for is the server's own work, here its sleep."""
        import psycopg

        prepare(uri)
        hasty = open_uri(uri, store_patience=2)
        with psycopg.connect(uri, autocommit=True) as other:
            other.execute(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'"
            )
            other.execute(
                "CREATE TRIGGER slow BEFORE INSERT ON alleles FOR EACH STATEMENT EXECUTE FUNCTION slow()"
            )
        assert hasty.write([allele(0)]) == 1
        hasty.close()

    def test_eight_processes_may_prepare_at_once(self, uri: str, rows: Any) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                prepare(uri)
            except StepError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert rows("alleles") == []

    def test_a_position_beyond_the_columns_type_is_said(self, store: Store) -> None:
        far = KeptAllele(*allele(0)[:3], 3_000_000_000, 3_000_000_001, "G", None, None)
        with pytest.raises(StepError, match="out of range"):
            store.write([far])


def test_a_full_disk_is_said_and_worth_another_try() -> None:
    import duckdb
    import psycopg.errors

    from anyvar_step.store import duckdb as file_store
    from anyvar_step.store.postgres import explained

    full = psycopg.errors.DiskFull('could not extend file "base/1/2": No space left on device')
    assert isinstance(explained(full, "anyvar at db"), FileTrouble)
    full = duckdb.IOException("IO Error: Could not write file: No space left on device")
    assert isinstance(file_store.explained(full, Path("a.duckdb")), FileTrouble)
