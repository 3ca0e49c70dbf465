"""The published schema of a run's report, from the model itself."""

from __future__ import annotations

from typing import Any

from anyvar_step.models import RunReport

#: The version that ``schema_version`` states; a change that readers would stumble over makes it one more.
VERSION = 1


def json_schema() -> dict[str, Any]:
    """A run's report as a JSON Schema (2020-12)."""
    made = RunReport.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:anyvar-step:run-report:{VERSION}",
        **made,
        "title": f"anyvar-step run report, version {VERSION}",
    }
