"""nf-core's own linter on the Nextflow modules, as far as it goes without a network.

``nf-core modules lint`` wants a clone of nf-core/modules. The test makes a repository in its place: our
modules lie where nf-core's own do, and two schemas of ours ask for less than those of nf-core/modules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from nextflow import LAUNCHER, PIPELINE, missing_programs
from pythons import python_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

#: Left as it is: the modules were named so from the start, and pipelines include them by that name.
KNOWN = "main_nf_module_no_punctuation"
SCHEMAS = {
    "meta-schema.json": ["name", "description", "keywords", "tools", "output", "topics", "authors"],
    "environment-schema.json": ["channels", "dependencies"],
}


def write_repository(folder: Path, environ: dict[str, str]) -> Path:
    """A clone of a repository that nf-core takes for nf-core/modules."""
    origin = folder / "origin"
    shutil.copytree(PIPELINE / "modules" / "anyvar_step", origin / "modules" / "nf-core" / "anyvar_step")
    for name, required in SCHEMAS.items():
        (origin / "modules" / name).write_text(json.dumps({"type": "object", "required": required}))
    (origin / ".nf-core.yml").write_text(
        "repository_type: modules\norg_path: nf-core\nnf_core_version: 4.2.1\n"
    )
    (origin / "tests" / "config").mkdir(parents=True)
    (origin / "tests" / "config" / "nextflow.config").touch()
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch=master"],
        ["add", "--all"],
        [*identity, "commit", "--quiet", "--message=modules"],
        ["clone", "--quiet", ".", str(folder / "clone")],
    ):
        subprocess.run(["git", *command], cwd=origin, env=environ, check=True)
    return folder / "clone"


def test_nf_core_lint_finds_nothing_but_the_underscore_of_the_name(tmp_path: Path) -> None:
    program = python_of("nfcore", "nf-core", "NOT LINTED BY NF-CORE").parent / "nf-core"
    if missing := missing_programs():
        pytest.skip(f"NOT LINTED BY NF-CORE: no {', '.join(missing)}")
    home = tmp_path / "home"
    environ = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "NXF_HOME": str(home / "nextflow"),
        "PATH": f"{LAUNCHER.parent}:{os.environ['PATH']}",
    }
    clone = write_repository(tmp_path, environ)
    options = ["--no-pull", "--git-remote", f"file://{clone}", "lint", "--all", "--dir", str(clone)]
    done = subprocess.run(
        [str(program), "--hide-progress", "modules", *options, "--plain-text"],
        env=environ, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    said = done.stdout + done.stderr
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) Tests? (Passed|Warnings?|Failed)", said)
    }
    print(counts)
    failed = re.findall(r"^anyvar_step/(\w+) (\w+)", said, re.MULTILINE)
    modules = sorted(path.name for path in (PIPELINE / "modules" / "anyvar_step").iterdir())
    assert sorted(failed) == [(module, KNOWN) for module in modules], said
    assert counts["Warnings"] == 0, said
    assert counts["Passed"] > 200, said
