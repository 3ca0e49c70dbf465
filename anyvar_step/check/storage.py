"""The work dir as this host sees it: there, writable, how fast, with room, and open to whom."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from anyvar_step.check.findings import Finding, failed
from anyvar_step.errors import FileTrouble, StepError
from anyvar_step.settings import Settings
from anyvar_step.workdir import WorkDir
from anyvar_step.workdir.probe import probe

#: Bytes and share of a filesystem below which there is little room, and the share of its inodes.
LITTLE, LITTLE_SHARE, FEW_INODES = 10 << 30, 0.02, 0.01
#: Filesystems in the memory of one host.
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def look(settings: Settings) -> Iterator[Finding]:
    """The work dir, without the workers: ``workers.look`` asks whether they see the same one."""
    try:
        root = settings.required_work_dir()
        workdir = WorkDir(root, mode=settings.work_dir_mode, latency_wait=settings.latency_wait)
        workdir.check()
        begin = time.perf_counter()
        with probe(workdir, secrets.token_hex(8)):
            seconds = time.perf_counter() - begin
    except StepError as error:
        yield failed("work dir", error)
        return
    kind = filesystem(root)
    yield Finding("work dir", "ok", f"{root} ({kind}) takes a small file in {seconds * 1000:.1f} ms")
    if kind in _IN_MEMORY:
        what = f"{root} is in the memory of this host: no other host sees it, and a restart empties it"
        yield Finding("work dir", "warning", what, "Use a directory of the shared filesystem")
    yield from _room(root)
    yield from _openness(root)


def _room(root: Path) -> Iterator[Finding]:
    space = os.statvfs(root)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    what = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free"
    remedy = "Make room: a VCF is there twice for a while; anyvar-step sweep removes what dead runs left"
    if free == 0:
        yield failed("work dir", FileTrouble(f"{root} is full", remedy))
    elif free < min(LITTLE, LITTLE_SHARE * total):
        yield Finding("work dir", "warning", what, remedy)
    else:
        yield Finding("work dir", "ok", what)
    if space.f_files and space.f_favail < FEW_INODES * space.f_files:
        what = f"{space.f_favail} of {space.f_files} files are left that may be made"
        yield Finding("work dir", "warning", what, "Remove small files: a run needs some five for a while")


def _openness(root: Path) -> Iterator[Finding]:
    """Inputs are genomes: nobody but step and workers should reach them."""
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o002 and not mode & stat.S_ISVTX:
        what = f"every user may rename and remove what is in {root} (mode {mode:04o})"
        yield Finding("work dir", "warning", what, f"chmod 2770 {root}, with a group for step and workers")
    elif mode & 0o005:
        what = f"every user may look into {root} (mode {mode:04o}); files in it are closed to them"
        yield Finding("work dir", "note", what, f"chmod 2770 {root}, with a group for step and workers")


def filesystem(path: Path) -> str:
    """The kind of filesystem that the path is on, as Linux names it; ``unknown`` elsewhere."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    real, best, kind = path.resolve(), -1, "unknown"
    for line in lines:
        before, _, after = line.partition(" - ")
        # Spaces in a mount point are written as \040.
        place = Path(before.split()[4].encode().decode("unicode_escape"))
        if real.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), after.split()[0]
    return kind
