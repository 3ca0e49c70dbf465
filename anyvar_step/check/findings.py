"""A finding: what was looked at, how it is, what to do about it; and the exit code of them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from anyvar_step.errors import StepError

Level = Literal["ok", "note", "warning", "error"]

#: Of several errors the first in this order decides: what no retry mends comes before what may pass.
ORDER = (78, 77, 66, 65, 70, 74, 75, 69, 124)


@dataclass(frozen=True)
class Finding:
    """One finding; ``exit_code`` is 0 but for errors, ``worker`` names the worker that it is about."""

    about: str
    level: Level
    what: str
    remedy: str = ""
    exit_code: int = 0
    worker: str = ""


def failed(about: str, error: StepError, worker: str = "") -> Finding:
    """The error as a finding."""
    return Finding(about, "error", error.what, error.remedy, error.exit_code, worker)


def exit_code(findings: Iterable[Finding]) -> int:
    """The code of the worst error, 0 without errors."""
    codes = {finding.exit_code for finding in findings} - {0}
    return next((code for code in ORDER if code in codes), max(codes, default=0))
