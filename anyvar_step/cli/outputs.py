"""A command's files, looked at before any work: none is written over another, and each can be written."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anyvar_step.errors import AccessRefused, from_os
from anyvar_step.step.drafts import is_stream, real

if TYPE_CHECKING:
    from anyvar_step.step.delivery import Target

#: Paths, or None where there is none, by what messages call them.
Files = dict[str, Path | None]


def check(inputs: Files, outputs: Files) -> None:
    """Refuse an output that is an input or another output, or that has no directory to be in: wrong usage.

    Raises AccessRefused where it may not be written.
    """
    taken = {key: what for what, path in inputs.items() if path for key in _keys(path)}
    for what, path in outputs.items():
        if path is None:
            continue
        _check_writable(what, path)
        keys = _keys(path)
        for key in keys & taken.keys():
            raise click.UsageError(f"{what} would overwrite {taken[key]}: {path}")
        taken |= dict.fromkeys(keys, what)


def of_input(source: Path, regions_file: str = "", targets_file: str = "") -> Files:
    """What is read of IN and its selection."""
    return {
        "IN": source,
        **{f"IN's {suffix}": Path(f"{source}{suffix}") for suffix in (".tbi", ".csi")},
        "--regions-file": Path(regions_file) if regions_file else None,
        "--targets-file": Path(targets_file.removeprefix("^")) if targets_file else None,
    }


def of_target(goal: Target) -> Files:
    """What is written to OUT and beside it; an older index is removed even where none is wanted."""
    out = goal.path if goal.folder else None
    indexes = {f"OUT's {suffix}": Path(f"{out}{suffix}") for suffix in (".tbi", ".csi")} if out else {}
    return {"OUT": goal.path, **indexes, "--ndjson": goal.companions.ndjson, "--tsv": goal.companions.tsv}


def _keys(path: Path) -> set[Hashable]:
    """What tells a file from others, whatever it is called; nothing for what holds no bytes to be lost."""
    try:
        found = path.stat()
    except OSError:
        return {os.path.realpath(path)}
    return set() if is_stream(path) else {os.path.realpath(path), (found.st_dev, found.st_ino)}


def _check_writable(what: str, path: Path) -> None:
    if str(path) == "-":
        raise click.UsageError(f"{what} names a file; standard output is /dev/stdout there")
    if path.is_dir():
        raise click.UsageError(f"{what} is a directory: {path}")
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise AccessRefused(f"{what} {path} is not writable", "Check its owner and mode")
        return
    folder = real(path).absolute().parent
    try:
        there = folder.is_dir()
    except OSError as error:
        raise from_os(error, f"cannot write {what} {path}") from error
    if not there:
        raise click.UsageError(f"the directory of {what} does not exist: {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AccessRefused(f"the directory of {what}, {folder}, is not writable", "Check its owner and mode")
