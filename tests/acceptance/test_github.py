""".github and .pre-commit-config.yaml: what runs there exists here, and is what a person runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, skip

yaml = pytest.importorskip("yaml", reason="the workflow extra is not installed")

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()

#: The published formats of the files, as check-jsonschema names them.
FORMATS = {
    ".github/workflows/*.yml": "github-workflows",
    ".github/dependabot.yml": "dependabot",
    ".github/ISSUE_TEMPLATE/[!c]*.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    "config/compose.yaml": "compose-spec",
    "CITATION.cff": "citation-file-format",
}


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(read(path)["jobs"])


def scripts(path: Path) -> list[str]:
    """What the workflow's steps run."""
    steps = [step for job in jobs(path).values() for step in job.get("steps", ())]
    return [step["run"] for step in steps if "run" in step]


@pytest.mark.services
def test_actionlint_finds_nothing() -> None:
    program = shutil.which("actionlint", path=f"{ROOT / '.tools'}:{os.environ['PATH']}")
    if program is None:
        message = (
            "no actionlint: GOBIN=$PWD/.tools go install github.com/rhysd/actionlint/cmd/actionlint@latest"
        )
        skip("WORKFLOWS NOT CHECKED", message)
    done = subprocess.run([program, *WORKFLOWS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.services
@pytest.mark.parametrize("pattern", FORMATS)
def test_the_files_are_in_their_published_formats(pattern: str, tools: Path) -> None:
    files = sorted(ROOT.glob(pattern))
    assert files
    command = [tools / "check-jsonschema", "--builtin-schema", f"vendor.{FORMATS[pattern]}", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.services
def test_wheels_are_built_once_for_each_platform(tools: Path) -> None:
    command = [tools / "cibuildwheel", "--print-build-identifiers", "--platform", "linux", ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = [line.partition("_")[0] for line in done.stdout.split()]
    assert built == ["cp311-manylinux", "cp311-musllinux"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_exists_here(path: Path) -> None:
    for script in scripts(path):
        for target in re.findall(r"^make ([a-z-]+)", script, re.MULTILINE):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
        for name in re.findall(r"(?:^|\s)((?:\.ci|config|tests|scripts)/\S+)", script):
            assert (ROOT / name).exists(), name
    for job in jobs(path).values():
        if called := job.get("uses"):
            assert (ROOT / called).is_file()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_holds_no_secret_and_may_only_read_unless_a_job_says_otherwise(path: Path) -> None:
    assert "secrets." not in path.read_text()
    assert read(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        assert "uses" in job or job["timeout-minutes"] <= 90, name


def test_every_python_that_the_package_names_is_tested_on_three_platforms() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    matrix = jobs(GITHUB / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]
    assert matrix["python"] == named
    assert named[0] == project["requires-python"].removeprefix(">=")
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "ubuntu", "macos"]


def test_the_nightly_run_takes_no_constraints() -> None:
    [newest] = [job for job in jobs(GITHUB / "workflows" / "nightly.yml").values() if "uses" in job]
    assert newest["with"] == {"newest": True}
    assert "!inputs.newest && 'constraints.txt' || ''" in (GITHUB / "workflows" / "ci.yml").read_text()
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "lint"],
        cwd=ROOT,
        env={**os.environ, "CONSTRAINTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "install" in done.stdout
    assert "--constraint" not in done.stdout


def test_a_commit_is_checked_with_the_commands_of_make_lint() -> None:
    [recipe] = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    for hook in hooks:
        command = re.sub(r"^env PATH=\S+ |^\.venv/bin/", "", hook["entry"])
        assert command in recipe, hook["id"]
    for tool in re.findall(r"\$\(VENV\)/bin/(\w+(?: (?:check|format))?)", recipe):
        assert any(tool in hook["entry"] for hook in hooks), tool


def test_dependabot_looks_into_folders_that_exist() -> None:
    for update in read(GITHUB / "dependabot.yml")["updates"]:
        assert (ROOT / update["directory"].strip("/")).is_dir(), update


def test_who_reports_a_fault_is_asked_for_what_check_prints() -> None:
    from click import Context

    from anyvar_step.cli import cli

    fields = read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]
    [asked] = [field for field in fields if field.get("id") == "check"]
    assert "`anyvar-step check --json`" in asked["attributes"]["label"]
    assert asked["validations"]["required"]
    command = cli.get_command(Context(cli), "check")
    assert command is not None
    assert any("--json" in option.opts for option in command.params)
