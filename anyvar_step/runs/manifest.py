"""Manifest, ticket and content digest of a run; the same for every transport."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.models import Manifest, RunRequest, WorkerOptions
from anyvar_step.runs.work_dir import Staged


def manifest_of(staged: Staged, name: str, request: RunRequest, digest: str, run_id: str = "") -> Manifest:
    """The manifest of a staged input; without a run id the ticket of a run whose id is chosen later."""
    return Manifest(
        run_id=run_id,
        digest=digest,
        input_name=name,
        input_size=staged.size,
        input_sha256=staged.sha256,
        options=request.options,
        **request.model_dump(include=set(WorkerOptions.model_fields)),
        folder=f"{staged.folder.parent.name}/{run_id}",
        staged_input=staged.input_name,
        submitted=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def with_run_id(manifest: Manifest, run_id: str) -> Manifest:
    """The manifest under that run id, in the folder of that name."""
    day = manifest.folder.partition("/")[0]
    return manifest.model_copy(update={"run_id": run_id, "folder": f"{day}/{run_id}"})


def content_digest(input_sha256: str, request: RunRequest) -> str:
    """Hex SHA-256 over what makes two runs the same: input, options, versions.

    An output is the same with and without an index.
    """
    identity = {
        "input": input_sha256,
        "request": request.model_dump(exclude={"run_id", "index"}),
        "versions": [__version__, VRS_VERSION],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
