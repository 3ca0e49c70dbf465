"""The other environments that tests call: those whose packages pin what ours need newer."""

from __future__ import annotations

import os
from pathlib import Path

from support import ROOT, skip


def find_python(name: str) -> Path:
    """ANYVAR_STEP_<NAME>_PYTHON, or that of .venv-<name>, which ``make`` makes; it may be absent."""
    return Path(os.environ.get(_variable(name)) or ROOT / f".venv-{name}" / "bin" / "python")


def python_of(name: str, packages: str, skipped: str) -> Path:
    """The same, with these packages; where it is absent the test is skipped so, and fails under CI."""
    python = find_python(name)
    if not python.exists():
        message = f"{python} is absent: set {_variable(name)} to a Python that has {packages}"
        skip(skipped, message)
    return python


def _variable(name: str) -> str:
    return f"ANYVAR_STEP_{name.upper()}_PYTHON"
