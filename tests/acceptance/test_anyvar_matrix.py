"""A site that mixes AnyVar and ours: every web API, workers, store and task, compared with AnyVar alone.

Each cell sends the same requests to one web API, AnyVar's or ours, before AnyVar's worker, ours, or one of
each, with Postgres or DuckDB. Codes, bodies, VRS fields and the rows in the store must be those of AnyVar's
own web API and worker with Postgres; ``expected`` has the exceptions, and docs/anyvar.md why. Cells that
cannot exist:

- AnyVar 1.0.0 with DuckDB or variations: it has neither;
- both workers with DuckDB: AnyVar's worker keeps the file open from its first run on, and DuckDB lets only
  one process open it. For the same reason AnyVar's web API keeps Postgres where the workers have DuckDB.

By default only the cells with one worker of each kind and Postgres are run, so that the tests stay short;
ANYVAR_STEP_MATRIX=all runs all of them (CONTRIBUTING.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from anyvar import AnyVar, make_seqrepo
from pythons import python_of
from servers import Postgres
from support import Site, until

# AnyVar's web API may store SENT over a fast run's end, which then never comes (docs/contract.md#redis-keys).
pytestmark = [pytest.mark.services, pytest.mark.flaky(reruns=3)]

VCF_FAILURE, VARIATIONS_FAILURE = 418, 417
THEIRS, OURS, BOTH = "theirs", "ours", "both"
POSTGRES, DUCKDB = "postgres", "duckdb"
ROWS = {
    "sequence_references": "id",
    "locations": "id, sequence_reference_id, start_pos, end_pos",
    "alleles": "id, location_id, state",
}
#: AnyVar's worker cannot read the record; our checks of an upload look at the header only.
UNREADABLE = "\t".join(["chr1", "1e5", ".", "A", "C", ".", ".", "."]) + "\n"

Answers = dict[str, Any]
Rows = dict[str, list[list[str]]]

COMPLETE = "VCF registration complete"
RUN_FAILURE = {"error": "WORDS", "error_code": "RUN_FAILURE"}


def success(message: str) -> tuple[int, Any]:
    return 200, {"run_id": "RUN", "status": "SUCCESS", "status_message": message}


@dataclass
class Cell:
    """One web API before some workers, and what it answered, by request."""

    client: httpx.Client
    files: Path
    answers: Answers = field(default_factory=dict)

    def put(self, path: str, name: str, **query: object) -> httpx.Response:
        with (self.files / name).open("rb") as file:
            return self.client.put(path, params=query, files={"vcf": file})  # type: ignore[arg-type]

    def register(self, variations: object, **query: str) -> httpx.Response:
        return self.client.put("/variations", params={"run_async": "true", **query}, json=variations)

    def finish(self, accepted: httpx.Response) -> httpx.Response:
        """The answer of a run's end."""
        assert accepted.status_code == 202, accepted.text
        deadline = time.monotonic() + 60
        while (answer := self.client.get(accepted.headers["location"])).status_code == 202:
            assert time.monotonic() < deadline, f"{accepted.text} is still at work"
            time.sleep(0.1)
        return answer


def told(answer: httpx.Response) -> tuple[int, Any]:
    """The code, and the body without what differs from call to call: run ids, and the words of an error."""
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return answer.status_code, fields(answer.text)
    body = answer.json()
    if isinstance(body, dict):
        if "run_id" in body:
            body = json.loads(answer.text.replace(body["run_id"], "RUN"))
        if "error" in body:
            assert len(body["error"]) > 10
            body["error"] = "WORDS"
            body.pop("error_class", None)  # ours adds it
        if "detail" in body:
            body = {"detail": [error["loc"] for error in body["detail"]]}
    return answer.status_code, body


def fields(text: str) -> list[tuple[str, ...]]:
    """Place, alleles and VRS fields of each record."""
    found = []
    for line in text.splitlines():
        if not line.startswith("#"):
            chrom, pos, _, ref, alt, _, _, info, *_ = line.split("\t")
            found.append((chrom, pos, ref, alt, *sorted(i for i in info.split(";") if i.startswith("VRS_"))))
    return found


def conflicts(answer: httpx.Response) -> tuple[int, Any]:
    """The code and the lines of a CSV of conflicts, without the state, which AnyVar does not quote."""
    if not answer.is_success:
        return told(answer)
    lines = [line.split(",") for line in answer.text.splitlines()]
    return answer.status_code, [(*line[:6], line[-1]) for line in lines]


def annotate(cell: Cell) -> None:
    """``PUT /vcf`` in both ways, its options, and how it fails."""
    said, put = cell.answers, cell.put
    accepted = put("/vcf", "sample.vcf", run_async=True, add_vrs_attributes=True)
    said["accepted"] = told(accepted)
    said["location"] = accepted.headers["location"].replace(accepted.json()["run_id"], "RUN")
    said["with attributes"] = told(cell.finish(accepted))
    with ThreadPoolExecutor() as pool:  # an unknown run is looked for for five seconds
        again = pool.submit(cell.client.get, accepted.headers["location"])
        unknown = pool.submit(cell.client.get, "/vcf/nobody-knows")
        said["ids of ALT alone"] = told(cell.finish(put("/vcf", "sample.vcf", run_async=True, for_ref=False)))
        said["synchronous"] = told(put("/vcf", "sample.vcf", add_vrs_attributes=True))
        named = put("/vcf", "sample.vcf", run_async=True, run_id=f"named-{os.urandom(8).hex()}")
        said["id in use"] = told(put("/vcf", "sample.vcf", run_async=True, run_id=named.json()["run_id"]))
        said["named"] = told(cell.finish(named))
        said["unreadable record"] = told(cell.finish(put("/vcf", "unreadable.vcf", run_async=True)))
        said["unreadable record, synchronous"] = told(put("/vcf", "unreadable.vcf"))
        said["no VCF"] = told(cell.finish(put("/vcf", "no.vcf", run_async=True)))
        said["unknown assembly"] = told(put("/vcf", "sample.vcf", run_async=True, assembly="hg99"))
        said["no file"] = told(cell.client.put("/vcf", params={"run_async": True}))
        said["fetched again"], said["unknown run"] = told(again.result()), told(unknown.result())


def ingest(cell: Cell) -> None:
    """``PUT /annotated_vcf`` of reference-length alleles, as AnyVar's own worker can."""
    said, put = cell.answers, cell.put
    accepted = put("/annotated_vcf", "deletions.vcf", run_async=True)
    said["accepted"] = told(accepted)
    said["deletions"] = told(cell.finish(accepted))
    for name in ("deletions.vcf", "wrong.vcf"):
        run = put("/annotated_vcf", name, run_async=True, require_validation=True)
        said[f"{name}, validated"] = conflicts(cell.finish(run))
    said["wrong.vcf"] = told(cell.finish(put("/annotated_vcf", "wrong.vcf", run_async=True)))
    said["synchronous"] = conflicts(put("/annotated_vcf", "wrong.vcf", require_validation=True))
    said["not annotated, synchronous"] = told(put("/annotated_vcf", "sample.vcf"))
    plain = put("/annotated_vcf", "sample.vcf", run_async=True)
    said["not annotated"] = told(cell.finish(plain) if plain.status_code == 202 else plain)


def ingest_literals(cell: Cell) -> None:
    """``PUT /annotated_vcf`` of any alleles, as ours can."""
    cell.answers["literals"] = told(cell.finish(cell.put("/annotated_vcf", "annotated.vcf", run_async=True)))


def variations(cell: Cell) -> None:
    """``PUT /variations?run_async=true``, and how it fails."""
    said, client = cell.answers, cell.client
    listed = json.loads((cell.files / "variations.json").read_text())
    accepted = cell.register(listed)
    said["accepted"] = told(accepted)
    said["location"] = accepted.headers["location"].replace(accepted.json()["run_id"], "RUN")
    said["retry-after"] = accepted.headers["retry-after"]
    said["registered"] = told(cell.finish(accepted))
    named = f"any name {os.urandom(8).hex()}"
    first = cell.register(listed[:1], run_id=named)
    said["id in use"] = told(cell.register(listed[:1], run_id=named))
    said["named"] = told(cell.finish(first))
    said["empty list"] = told(cell.finish(cell.register([])))
    said["no list"] = cell.register({}).status_code
    said["no definition"] = told(cell.register([listed[0], {"assembly_name": "GRCh38"}]))
    said["fetched again"] = told(client.get(accepted.headers["location"]))


TASKS: dict[str, Callable[[Cell], None]] = {
    "annotate": annotate,
    "ingest": ingest,
    "ingest literals": ingest_literals,
    "variations": variations,
}


class Matrix:
    """The web APIs of a site, the workers that are running, and the cells so far."""

    def __init__(self, anyvar: AnyVar, postgres: Postgres, database: str, files: Path) -> None:
        self.anyvar, self.postgres, self.database, self.files = anyvar, postgres, database, files
        self.urls: dict[str, str] = {}
        self._done: dict[tuple[str, ...], tuple[Answers, Rows]] = {}
        self._file = anyvar.site.folder / "alleles.duckdb"
        self._running = ("", "")
        self._workers = contextlib.ExitStack()

    def cell(self, store: str, workers: str, api: str, task: str) -> tuple[Answers, Rows]:
        """Answers and rows of that cell, which is run once."""
        key = (store, workers, api, task)
        if key not in self._done:
            self._empty(store)
            self.use(store, workers)
            with httpx.Client(base_url=self.urls[api], timeout=120) as client:
                cell = Cell(client, self.files)
                TASKS[task](cell)
            self._done[key] = (cell.answers, self._rows(store))
        return self._done[key]

    def use(self, store: str, workers: str) -> None:
        """Have these workers running, and no others."""
        if self._running == (store, workers):
            return
        self.stop()
        uri = self.postgres.uri(self.database) if store == POSTGRES else f"duckdb:///{self._file}"
        self.anyvar.storage = self.anyvar.site.extra["ANYVAR_STORAGE_URI"] = uri
        if workers in (THEIRS, BOTH):
            self._workers.enter_context(self.anyvar.worker())
        if workers in (OURS, BOTH):
            self._workers.enter_context(self.anyvar.site.worker())
        self._running = (store, workers)

    def stop(self) -> None:
        """End the workers."""
        self._workers.close()
        self._running = ("", "")

    def _empty(self, store: str) -> None:
        if store == POSTGRES:
            self.postgres.sql(f"TRUNCATE {', '.join(ROWS)} CASCADE", self.database)
        else:
            self.stop()
            for path in (self._file, self._file.with_suffix(".duckdb.wal")):
                path.unlink(missing_ok=True)

    def _rows(self, store: str) -> Rows:
        statements = {table: f"SELECT {columns} FROM {table}" for table, columns in ROWS.items()}
        found: Rows
        if store == POSTGRES:
            found = {table: self.postgres.sql(text, self.database) for table, text in statements.items()}
        else:
            self.stop()
            with self._opened() as file:
                listed = {table: file.execute(text).fetchall() for table, text in statements.items()}
            found = {table: [[str(value) for value in row] for row in rows] for table, rows in listed.items()}
        for row in found["alleles"]:
            row[2] = json.dumps(json.loads(row[2]), sort_keys=True)
        return {table: sorted(rows) for table, rows in found.items()}

    def _opened(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB file, once no killed worker has it open any more."""
        opened = []

        def is_free() -> bool:
            with contextlib.suppress(duckdb.IOException):
                opened.append(duckdb.connect(self._file))
            return bool(opened)

        until(is_free)
        return opened[0]


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of("anyvar", "anyvar", "NOT TESTED WITH ANYVAR")


@pytest.fixture(scope="module")
def newer(python: Path) -> bool:
    """Whether this AnyVar has what came after 1.0.0: DuckDB, and asynchronous variations."""
    look = "import importlib.util as u; print(bool(u.find_spec('anyvar.storage.duckdb')))"
    return subprocess.run([python, "-c", look], capture_output=True, text=True).stdout == "True\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, demo_data: Path, redis_url: str) -> Path:
    """What the cells send."""
    folder = tmp_path_factory.mktemp("sent")
    lines = (demo_data / "vcf" / "bela.vcf").read_text().splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    records = lines[len(header) :: 8]
    sample = "".join([*header, *records])
    (folder / "sample.vcf").write_text(sample)
    (folder / "unreadable.vcf").write_text(sample + UNREADABLE)
    (folder / "no.vcf").write_text("sample\tvalue\n")
    site = Site(folder / "site", redis_url, demo_data / "resources" / "genome.fa")
    annotated = folder / "annotated.vcf"
    done = site.run("annotate", folder / "sample.vcf", "-o", annotated, "--attributes", "--local")
    assert done.returncode == 0, done.stderr
    lines = annotated.read_text().splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    deletions = [line for line in lines if re.search(r"VRS_Lengths=\d+(,\d+)*[;\t]", line)]
    assert len(deletions) > 10
    (folder / "deletions.vcf").write_text("".join(header + deletions))
    first, second = (re.findall(r"ga4gh:VA\.[^,;\t]+", line)[-1] for line in deletions[:2])
    wrong = deletions[0].replace(first, second)
    (folder / "wrong.vcf").write_text("".join([*header, wrong, *deletions[1:]]))
    listed = []
    for line in records:
        chrom, pos, _, ref, alt = line.split("\t")[:5]
        if re.fullmatch("[ACGT]+", ref) and re.fullmatch("[ACGT]+", alt):
            listed.append({"definition": f"{chrom}-{pos}-{ref}-{alt}", "assembly_name": "GRCh38"})
    other = "A" if listed[0]["definition"].split("-")[2] != "A" else "C"
    wrong_ref = f"chr1-{listed[0]['definition'].split('-')[1]}-{other}-G"
    (folder / "variations.json").write_text(json.dumps([*listed[:40], {"definition": wrong_ref}]))
    return folder


@pytest.fixture(scope="module")
def matrix(
    tmp_path_factory: pytest.TempPathFactory,
    python: Path,
    redis_url: str,
    postgres: Postgres,
    demo_data: Path,
    files: Path,
) -> Iterator[Matrix]:
    """Both web APIs on one queue, and a database."""
    folder = tmp_path_factory.mktemp("matrix")
    genome = demo_data / "resources" / "genome.fa"
    seqrepo = make_seqrepo(python, genome, folder / "seqrepo")
    site = Site(folder / "site", redis_url, genome)
    site.extra["ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE"] = str(VCF_FAILURE)
    site.extra["ANYVAR_VARIATIONS_ASYNC_FAILURE_STATUS_CODE"] = str(VARIATIONS_FAILURE)
    with postgres.database() as name, contextlib.ExitStack() as stack:
        postgres.sql("CREATE EXTENSION btree_gist", name)
        anyvar = AnyVar(python, site, seqrepo, postgres.uri(name))
        made = Matrix(anyvar, postgres, name, files)
        made.urls[THEIRS] = stack.enter_context(anyvar.web())
        made.urls[OURS] = stack.enter_context(site.web()).url
        stack.callback(made.stop)
        yield made


@pytest.fixture(scope="module")
def alone(matrix: Matrix, newer: bool) -> dict[str, tuple[Answers, Rows]]:
    """Answers and rows of AnyVar's own web API and worker, by task."""
    tasks = [task for task in TASKS if newer or task != "variations"]
    return {task: matrix.cell(POSTGRES, THEIRS, THEIRS, task) for task in tasks}


def expected(
    answers: Answers, rows: Rows, workers: str, api: str, task: str
) -> tuple[dict[str, list[Any]], Rows]:
    """What is right in that cell, from AnyVar's own answers; with both workers a run may fall to either."""
    right = {name: [answer] for name, answer in answers.items()}
    if api == OURS and task == "annotate":
        right["fetched again"] = right["with attributes"]  # results stay for a while
        right["unreadable record, synchronous"] = right["unreadable record"]  # the queue's failure code
    if api == OURS and task == "ingest":
        right["not annotated"] = right["not annotated, synchronous"]  # refused before it is queued
    if workers != THEIRS:
        own: dict[str, Any] = {}
        if task == "ingest":
            left_out = f"{COMPLETE}. Alleles left out, whose identifiers do not match them: 1"
            own["wrong.vcf"] = (VCF_FAILURE, RUN_FAILURE) if api == THEIRS else success(left_out)
        elif task == "ingest literals":
            own["literals"] = success(COMPLETE)
        elif task == "variations" and workers == OURS:
            own |= dict.fromkeys(("registered", "named", "empty list"), (VARIATIONS_FAILURE, RUN_FAILURE))
            rows = {table: [] for table in rows}
        for name, answer in own.items():
            right[name] = [answer, *(right[name] if workers == BOTH else ())]
    return right, rows


def without_empty_sequences(rows: Rows) -> Rows:
    """AnyVar's ingestion registers a sequence that the VCF does not show as an empty one, ours as none."""
    shown = [
        [*row[:2], row[2].replace('"sequence": "", "type": "R', '"type": "R')] for row in rows["alleles"]
    ]
    return {**rows, "alleles": shown}


ALL = os.environ.get("ANYVAR_STEP_MATRIX") == "all"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("api", [THEIRS, OURS])
@pytest.mark.parametrize(
    ("store", "workers"),
    [(POSTGRES, BOTH)] + ALL * [(POSTGRES, THEIRS), (POSTGRES, OURS), (DUCKDB, THEIRS), (DUCKDB, OURS)],
)
def test_every_cell_answers_and_registers_as_anyvar_alone(
    store: str,
    workers: str,
    api: str,
    task: str,
    matrix: Matrix,
    alone: dict[str, tuple[Answers, Rows]],
    newer: bool,
) -> None:
    if not newer and (store == DUCKDB or task == "variations"):
        pytest.skip("this AnyVar has neither DuckDB nor asynchronous variations")
    right, right_rows = expected(*alone[task], workers, api, task)
    answers, rows = matrix.cell(store, workers, api, task)
    assert {name: answer for name, answer in answers.items() if answer not in right[name]} == {}
    assert answers.keys() == right.keys()
    if task == "ingest literals":
        right_rows = {table: [] for table in ROWS}
        if answers["literals"][0] == 200:
            right_rows = alone["annotate"][1]
    if task == "ingest" and workers != THEIRS:
        rows, right_rows = without_empty_sequences(rows), without_empty_sequences(right_rows)
    assert rows == right_rows


@pytest.mark.parametrize("api", [THEIRS, OURS])
def test_of_200_mixed_requests_to_one_worker_of_each_kind_none_is_lost_and_none_fails(
    api: str, matrix: Matrix, alone: dict[str, tuple[Answers, Rows]], newer: bool
) -> None:
    if not newer:
        pytest.skip("this AnyVar has no asynchronous variations")
    (vcf, _), (variations, _) = alone["annotate"], alone["variations"]
    listed = json.loads((matrix.files / "variations.json").read_text())[:5]
    matrix.use(POSTGRES, BOTH)
    site = matrix.anyvar.site
    before, files_before = done_by(site.folder), site.left_over()

    def ask(number: int, cell: Cell) -> tuple[bool, Any]:
        if number % 2:
            answer = told(cell.finish(cell.register(listed)))
            return answer == (200, variations["registered"][1][:5]), answer
        if number % 4:
            accepted = cell.put("/vcf", "sample.vcf", run_async=True, add_vrs_attributes=True)
            answer = told(cell.finish(accepted))
            return answer == vcf["with attributes"], answer
        answer = told(cell.finish(cell.put("/vcf", "sample.vcf", run_async=True, for_ref=False)))
        return answer == vcf["ids of ALT alone"], answer

    with httpx.Client(base_url=matrix.urls[api], timeout=120) as client, ThreadPoolExecutor(8) as pool:
        cell = Cell(client, matrix.files)
        answers = list(pool.map(lambda number: ask(number, cell), range(200)))
    assert [answer for right, answer in answers if not right] == []
    done = done_by(site.folder) - before
    assert done[THEIRS, "register_variations"] == 100
    assert done[THEIRS, "annotate_vcf"] + done[OURS, "annotate_vcf"] == 100
    assert min(done[THEIRS, "annotate_vcf"], done[OURS, "annotate_vcf"]) > 0
    if api == THEIRS:  # ours keeps a result for five minutes more
        assert site.left_over() == files_before


def done_by(folder: Path) -> Counter[tuple[str, str]]:
    """How many runs of each task ended well, by the kind of worker, as their logs say."""
    done: Counter[tuple[str, str]] = Counter()
    for path in folder.glob("*worker*.log"):
        kind = THEIRS if path.name.startswith("anyvar") else OURS
        for task in re.findall(r"Task anyvar\S+\.(\w+)\[[^\]]+\] succeeded", path.read_text()):
            done[kind, task] += 1
    return done
