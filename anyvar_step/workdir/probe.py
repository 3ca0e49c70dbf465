"""A probe in the work dir: the step writes a file, a worker answers with one beside it, all goes again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anyvar_step.errors import FileTrouble, from_os
from anyvar_step.workdir.entries import create, make_folder
from anyvar_step.workdir.tree import WorkDir

#: The probe's folder is ``.check-<token>`` at the work dir's top; the sweep removes what a killed check left.
PREFIX = ".check-"
_PROBE = "probe"
_ANSWER = re.compile(r"answer-[0-9a-f]{16}")


@dataclass(frozen=True)
class Probe:
    """A probe that lies in the work dir; ``content`` is what an answer must have read."""

    folder: Path
    content: bytes


@contextlib.contextmanager
def probe(workdir: WorkDir, token: str) -> Iterator[Probe]:
    """Lay a probe out while the block lasts. Raises FileTrouble or AccessRefused where that fails."""
    folder = workdir.root / f"{PREFIX}{token}"
    content = secrets.token_bytes(64)
    try:
        try:
            make_folder(folder, workdir.mode)
            with create(folder / _PROBE, workdir.mode) as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise from_os(error, f"cannot write into the work dir {workdir.root}") from error
        yield Probe(folder, content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answer(workdir: WorkDir, token: str) -> str:
    """Read the probe and write an answer beside it; the answer's name. The worker's side."""
    path = workdir.contained(workdir.root / f"{PREFIX}{token}" / _PROBE)
    workdir.await_file(path)
    name = f"answer-{secrets.token_hex(8)}"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        workdir.write(path.with_name(name), digest.encode())
    except OSError as error:
        raise from_os(error, f"cannot answer in the work dir {workdir.root}") from error
    return name


def check_answer(workdir: WorkDir, laid: Probe, name: str) -> None:
    """Raise FileTrouble or AccessRefused unless a worker's answer shows here and fits."""
    if not _ANSWER.fullmatch(name):
        raise FileTrouble(f"{name[:40]!r} is no answer's name")
    path = workdir.contained(laid.folder / name)
    workdir.await_file(path)
    try:
        said = path.read_bytes()
    except OSError as error:
        raise from_os(error, f"cannot read what a worker wrote, {path}") from error
    if said != hashlib.sha256(laid.content).hexdigest().encode():
        raise FileTrouble(f"{path} is not what a worker would have written after reading the probe")
