"""config/systemd, config/kubernetes and the image: what docs/deployment.md has them do exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from support import ROOT

from anyvar_step.cli import cli
from anyvar_step.settings import Settings

UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))
DOCKERFILE = ROOT / "config" / "Dockerfile"
COMPOSE = (ROOT / "config" / "compose.yaml").read_text()
KUBERNETES = ROOT / "config" / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
#: What the compiled engine is built of, where the clone has it.
ENGINE = ("native", "hatch_build.py")
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
    assert len(re.findall("^FROM ", text, re.MULTILINE)) == 2, "one stage that builds, one that stays"
    assert re.search(r"^ARG PYTHON=python:3\.1[1-4]-slim$", text, re.MULTILINE)
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {"anyvar_step", "pyproject.toml", "constraints.txt"} < set(kept)
    assert all((ROOT / name).exists() for name in kept if name not in ENGINE)
    [extras] = re.findall(r"'anyvar-step\[(.*)\]'", text)
    known = re.findall(r"^([a-z-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(known)


def test_the_image_runs_as_no_root_and_says_whether_it_is_well() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    [user] = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user == "1000"
    [health] = [line.partition(" CMD ")[2] for line in lines if line.startswith("HEALTHCHECK ")]
    assert accepts(shlex.join(json.loads(health)))


def manifests() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every object of config/kubernetes but the kustomization, with its file."""
    yaml = pytest.importorskip("yaml", reason="the workflow extra is not installed")
    for path in MANIFESTS:
        for found in yaml.safe_load_all(path.read_text()):
            yield path, found


def pods() -> Iterator[dict[str, Any]]:
    for _, found in manifests():
        if "template" in found.get("spec", {}):
            yield found["spec"]["template"]["spec"]


def containers() -> Iterator[dict[str, Any]]:
    for pod in pods():
        yield from pod["containers"]


def test_the_kustomization_lists_every_manifest() -> None:
    yaml = pytest.importorskip("yaml", reason="the workflow extra is not installed")
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert sorted(listed["resources"]) == [path.name for path in MANIFESTS]
    kinds = {found["kind"] for _, found in manifests()}
    assert kinds >= {"Deployment", "Service", "PersistentVolumeClaim", "ScaledObject", "ConfigMap"}


@pytest.mark.services
def test_kubernetes_knows_every_field_of_the_manifests(tools: Path) -> None:
    """KEDA's object apart, which is none of its own."""
    files = [path for path in MANIFESTS if path.name != "scaling.yaml"]
    done = subprocess.run(
        [tools / "kubernetes-validate", "--strict", *files], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed ") == sum(path in files for path, _ in manifests())


#: Reads the object, and prints what KEDA's model keeps of it.
KEDA = """
import json, sys
from cloudcoil.models.keda.v1alpha1 import ScaledObject
found = ScaledObject.model_validate(json.load(sys.stdin))
json.dump(found.model_dump(by_alias=True, exclude_unset=True, mode="json"), sys.stdout)
"""


@pytest.mark.services
def test_keda_knows_every_field_of_its_object(tools: Path) -> None:
    [scaled] = [found for _, found in manifests() if found["kind"] == "ScaledObject"]
    for field in ({}, {"minReplicas": 1}):
        given = {**scaled, "spec": {**scaled["spec"], **field}}
        done = subprocess.run(
            [tools / "python", "-c", KEDA],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert (json.loads(done.stdout) == given) == (not field), "a field that KEDA does not know is dropped"


def test_the_manifests_start_commands_and_name_settings_that_exist() -> None:
    ours = [container for container in containers() if container["image"] == "anyvar-step"]
    assert len(ours) == 2
    for container in ours:
        assert accepts(shlex.join(container["command"]))
        assert {item["name"] for item in container["env"]} - {"POD", "XDG_CACHE_HOME"} <= SETTINGS
        probes = [container.get(name, {}).get("exec") for name in ("startupProbe", "readinessProbe")]
        assert all(accepts(shlex.join(probe["command"])) for probe in probes if probe)
    [common] = [found["data"] for _, found in manifests() if found["kind"] == "ConfigMap"]
    assert set(common) <= SETTINGS


def test_the_manifests_scale_by_the_queue_that_the_workers_serve() -> None:
    defaults = {str(field.alias): field.default for field in Settings.model_fields.values()}
    [scaled] = [found["spec"] for _, found in manifests() if found["kind"] == "ScaledObject"]
    [trigger] = scaled["triggers"]
    assert trigger["metadata"]["listName"] == defaults["CELERY_TASK_DEFAULT_QUEUE"]
    [worker] = [
        found
        for _, found in manifests()
        if found["metadata"]["name"] == "worker" and "template" in found["spec"]
    ]
    assert scaled["scaleTargetRef"] == {"kind": worker["kind"], "name": "worker"}
    assert "replicas" not in worker["spec"], "two would say how many workers there are"
    grace = worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(str(defaults["CELERY_TASK_TIME_LIMIT"])), "a run at work would be killed"


def test_no_pod_runs_as_root_or_may_become_it() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_every_volume_of_a_pod_is_there() -> None:
    claims = {
        found["metadata"]["name"]: found["spec"] for _, found in manifests() if "Claim" in found["kind"]
    }
    assert all(claim["accessModes"] == ["ReadWriteMany"] for claim in claims.values())
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        for volume in volumes.values():
            assert (
                "persistentVolumeClaim" not in volume
                or volume["persistentVolumeClaim"]["claimName"] in claims
            )
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= set(volumes) | {"data"}
