"""Fixtures of all tests: an environment without the project's own variables, a private Redis, a genome."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import ENGINES, running
from servers import Postgres, find_postgres, private_postgres, private_redis
from slurm import Slurm, missing_programs, private_slurm
from support import Site, end_leftover_steps, skip, until, write_genome, write_vcf

from anyvar_step.vrs import EngineChoice

# Started in the background of a script, pytest ignores SIGINT, and so would the steps that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("ANYVAR_", "CELERY_", "SEQREPO_")) and not name.endswith("_PYTHON"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # no .env of the user's


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[EngineChoice]:
    """Each engine in turn: what ``engines.Annotator`` uses."""
    with running(request.param) as choice:
        yield choice


@pytest.fixture(autouse=True)
def _no_step_outlives_its_test() -> Iterator[None]:
    yield
    end_leftover_steps()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private Redis; each site has a queue of its own on it."""
    with private_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def settled(redis_url: str) -> None:
    """The private Redis has been up for so long that a sweep believes what it says."""
    from anyvar_step.runs.connection import connect
    from anyvar_step.runs.sweep import SETTLED_SECONDS

    redis = connect(redis_url)
    until(lambda: redis.info("server")["uptime_in_seconds"] >= SETTLED_SECONDS, SETTLED_SECONDS + 5)
    redis.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private Postgres; each test makes databases of its own in it."""
    if find_postgres() is None:
        skip("NOT TESTED WITH POSTGRES", "Postgres is not installed: apt install postgresql")
    with private_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A private one-node Slurm."""
    if missing := missing_programs():
        skip("NOT TESTED WITH SLURM", f"no {', '.join(missing)}: apt install slurm-wlm slurm-client munge")
    with private_slurm() as server:
        yield server


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FASTA with one contig."""
    return write_genome(tmp_path_factory.mktemp("genome") / "genome.fa")


@pytest.fixture(scope="session")
def vcf(genome: Path) -> Path:
    """A VCF of 200 records that agrees with the genome."""
    return write_vcf(genome.with_name("sample.vcf"), genome)


@pytest.fixture
def site(tmp_path: Path, redis_url: str, genome: Path) -> Site:
    """A site without a worker."""
    return Site(tmp_path / "site", redis_url, genome)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_url: str, genome: Path) -> Iterator[Site]:
    """A site with one worker, shared by a module's tests."""
    place = Site(tmp_path_factory.mktemp("served") / "site", redis_url, genome)
    with place.worker():
        yield place


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of real engines and clusters, whose timing is not ours, as flaky: two tries.

    Of a test marked quick(n), those beyond the first n parameters become slow.
    """
    seen = Counter[str]()
    for item in items:
        if quick := item.get_closest_marker("quick"):
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > quick.args[0]:
                item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("services") and not item.get_closest_marker("flaky"):
            item.add_marker(pytest.mark.flaky(reruns=1))
