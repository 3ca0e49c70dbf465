"""config/systemd and config/compose.yaml: commands and settings that exist, as docs/deployment.md says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from support import ROOT

from anyvar_step.cli import cli
from anyvar_step.settings import Settings

UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))
DOCKERFILE = ROOT / "config" / "Dockerfile"
COMPOSE = (ROOT / "config" / "compose.yaml").read_text()
SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}


def accepts(command_line: str) -> bool:
    """Whether ``anyvar-step`` takes these arguments; raises click's error for what it does not take."""
    _, name, *arguments = shlex.split(command_line)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    command.make_context(name, arguments)
    return True


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    [command] = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert accepts(command)
    assert f"`{unit.name}`" in (ROOT / "docs" / "deployment.md").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="SKIPPED: systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/anyvar-step/bin/anyvar-step", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compose_file_starts_commands_and_names_settings_that_exist() -> None:
    commands = re.findall(r"command: (anyvar-step .*)", COMPOSE)
    assert len(commands) == 2
    assert all(map(accepts, commands))
    assert set(re.findall(r"^ +((?:ANYVAR|CELERY)_[A-Z_]+):", COMPOSE, re.MULTILINE)) <= SETTINGS


def test_the_compose_file_is_whole_yaml_whose_anchors_hold() -> None:
    yaml = pytest.importorskip("yaml", reason="the workflow extra is not installed")
    services = yaml.safe_load(COMPOSE)["services"]
    assert list(services) == ["redis", "worker", "web"]
    for name in ("worker", "web"):
        assert services[name]["environment"]["CELERY_BROKER_URL"] == "redis://redis:6379/0"
        build = services[name]["build"]
        assert (ROOT / "config" / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE


def test_the_image_is_made_of_files_and_extras_that_exist() -> None:
    text = DOCKERFILE.read_text()
    assert re.search(r"^FROM python:3\.1[123]-slim$", text, re.MULTILINE)
    copied = [name for line in re.findall(r"^COPY (.*) /src", text, re.MULTILINE) for name in line.split()]
    assert {"anyvar_step", "pyproject.toml"} < set(copied)
    assert all((ROOT / name).exists() for name in copied)
    extras = re.search(r"/src\[(.*)\]", text)
    assert extras
    known = re.findall(r"^([a-z-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras[1].split(",")) <= set(known)
