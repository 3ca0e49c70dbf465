"""Fixtures of the workflow's tests: the demo's data, a copy of it to work in, and a site that serves it."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from pythons import python_of
from support import ROOT, Site


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data, made once."""
    folder = tmp_path_factory.mktemp("demo")
    runpy.run_path(str(ROOT / "workflow" / "demo" / "make_demo.py"))["write_demo"](folder)
    return folder


@pytest.fixture
def project(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo as working directory, and a PATH with anyvar-step on it."""
    folder = tmp_path / "project"
    shutil.copytree(demo_data, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ANYVAR_STEP_REFERENCE", f"demo={folder}/resources/genome.fa")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def demo_site(project: Path, redis_url: str) -> Site:
    """A site without a worker whose reference is the demo's genome."""
    genome = project / "resources" / "genome.fa"
    return Site(project.parent / "site", redis_url, genome, {"ANYVAR_STEP_REFERENCE": f"demo={genome}"})


@pytest.fixture(scope="session")
def tools() -> Path:
    """Others' programs that look at our runs and files; ``make test-all`` makes the default folder."""
    python = python_of(
        "tools", "multiqc, flower, kubernetes-validate, check-jsonschema", "NOT TRIED WITH OTHERS' TOOLS"
    )
    return python.parent
