"""The files beside the Nextflow code agree with it: parameters, schemas, nf-core's meta.yml, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from anyvar_step import __version__
from anyvar_step.errors import RETRYABLE

jsonschema = pytest.importorskip("jsonschema", reason="comes with the workflow extra")
yaml = pytest.importorskip("yaml", reason="comes with the workflow extra")

PIPELINE = ROOT / "workflow" / "nextflow"
MODULES = sorted((PIPELINE / "modules" / "anyvar_step").iterdir())
KINDS = {"boolean": bool, "integer": int, "string": str}


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PIPELINE / "nextflow_schema.json").read_text())
    return loaded


def parameters() -> dict[str, Any]:
    return {name: rule for group in schema()["$defs"].values() for name, rule in group["properties"].items()}


def config_defaults() -> dict[str, object]:
    text = (PIPELINE / "nextflow.config").read_text()
    block = re.search(r"^params \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    assert block
    pairs = re.findall(r"^ +(\w+) += (.+)$", block[1], re.MULTILINE)
    return {name: None if value == "null" else json.loads(value.replace("'", '"')) for name, value in pairs}


def test_the_schemas_are_json_schemas() -> None:
    for path in (PIPELINE / "nextflow_schema.json", PIPELINE / "assets" / "schema_input.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_schema_and_config_have_the_same_parameters_and_defaults() -> None:
    assert {name: rule.get("default") for name, rule in parameters().items()} == config_defaults()
    given = {name: value for name, value in config_defaults().items() if value is not None}
    jsonschema.validate({**given, "input": "samples.csv", "outdir": "results"}, schema())


def test_the_schema_uses_nothing_that_the_pipelines_own_check_does_not_know() -> None:
    known = {"type", "enum", "pattern", "errorMessage", "minimum", "exists", "default", "description"}
    others = {"format", "mimetype", "schema"}  # for nf-schema and launch forms
    for name, rule in parameters().items():
        assert set(rule) <= known | others, name
        assert rule["type"] in KINDS
        assert ("pattern" in rule) == ("errorMessage" in rule)
    referred = {entry["$ref"].rpartition("/")[2] for entry in schema()["allOf"]}
    assert referred == set(schema()["$defs"])


def test_nf_schema_and_launch_forms_check_the_rows_of_the_sample_sheet_too() -> None:
    sheet = parameters()["input"]
    assert sheet["mimetype"] == "text/csv"
    rows = json.loads((PIPELINE / sheet["schema"]).read_text())
    assert rows["uniqueEntries"] == ["sample"]
    jsonschema.validate([{"sample": "a", "vcf": "my calls.vcf", "note": ""}], rows)
    for wrong in ({"sample": "a"}, {"sample": "a/b", "vcf": "a.vcf"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([wrong], rows)


def test_every_parameter_is_used_and_every_used_one_is_known() -> None:
    files = [path for path in PIPELINE.rglob("*") if path.parent.name != "tests"]
    code = "".join(path.read_text() for path in files if path.suffix in (".nf", ".groovy", ".config"))
    used = set(re.findall(r"\bparams\.(\w+)", code))
    assert used - {"keySet"} == set(parameters())


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_has_what_nf_core_asks_for(module: Path) -> None:
    meta = yaml.safe_load((module / "meta.yml").read_text())
    code = (module / "main.nf").read_text()
    assert meta["name"] == f"anyvar_step_{module.name}"
    assert f"process ANYVAR_STEP_{module.name.upper()} {{" in code
    assert len(meta["keywords"]) >= 3
    assert {"description", "tools", "input", "output", "authors", "maintainers"} <= set(meta)
    assert declared_inputs(code) == [[next(iter(entry)) for entry in channel] for channel in meta["input"]]
    assert set(re.findall(r"emit: (\w+)", code)) == set(meta["output"])
    [expression] = re.findall(r'eval\("(.+)"\)', code)
    for versions in (meta["output"]["versions_anyvar_step"], meta["topics"]["versions"]):
        assert [next(iter(entry)) for entry in versions[0]] == ["${task.process}", "anyvar-step", expression]
    [tool] = meta["tools"]
    for link in ("homepage", "documentation", "tool_dev_url"):
        assert "/anyvar-step" in tool["anyvar_step"][link]
    for words in (
        "task.ext.args ?: ''",
        'task.ext.prefix ?: "${meta.id}"',
        "task.ext.when == null || task.ext.when",
        "stub:",
        "topic: versions, emit: versions_anyvar_step",
        "'docker-daemon:anyvar-step:" + __version__,
        "'anyvar-step:" + __version__,
        'conda "${moduleDir}/environment.yml"',
        "label 'process_single'",
    ):
        assert words in code
    test = (module / "tests" / "main.nf.test").read_text()
    assert f'process "ANYVAR_STEP_{module.name.upper()}"' in test
    for name in meta["output"]:
        assert f"process.out.{name}" in test


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_modules_environment_is_pinned_to_this_version_as_nf_core_asks(module: Path) -> None:
    environment = yaml.safe_load((module / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "bioconda"]
    *conda, pip = environment["dependencies"]
    assert all(re.fullmatch(r"conda-forge::[a-z]+=[0-9.]+", package) for package in conda)
    assert pip == {"pip": [f"anyvar-step[local]=={__version__}"]}


def declared_inputs(code: str) -> list[list[str]]:
    """The names in each input tuple of a process."""
    block = re.search(r"input:\n(.*?)\n\n", code, re.DOTALL)
    assert block
    return [re.findall(r"(?:val|path)\((\w+)[,)]", line) for line in block[1].splitlines()]


def test_the_settings_before_the_defaults_repeat_them() -> None:
    """conf/early.config is read before the defaults, so it repeats those of the parameters that it uses."""
    early = (PIPELINE / "conf" / "early.config").read_text()
    repeated = re.findall(r"params\.(\w+) \?: ('?[\w:.-]+'?)", early)
    assert {name for name, _ in repeated} == {"max_waiting", "container", "publish_mode"}
    for name, value in repeated:
        if name == "container":  # no default: the image of the modules, as the documented build tags it
            assert value == f"'anyvar-step:{__version__}'"
        else:
            assert json.loads(value.replace("'", '"')) == config_defaults()[name]


def test_the_snapshot_names_this_version() -> None:
    snapshot = PIPELINE / "modules" / "anyvar_step" / "annotate" / "tests" / "main.nf.test.snap"
    [(_, versions)] = [entry["content"] for entry in json.loads(snapshot.read_text()).values()]
    assert versions == {"versions_anyvar_step": [["ANYVAR_STEP_ANNOTATE", "anyvar-step", __version__]]}


def test_the_error_strategy_retries_what_the_exit_codes_say() -> None:
    config = (PIPELINE / "conf" / "anyvar_step.config").read_text()
    listed = re.search(r"exitStatus in \[([^\]]+)\]", config)
    assert listed
    assert {int(code) for code in listed[1].split(",")} == RETRYABLE | {104}
