"""Sweeping the work dir: what dead runs left is removed, never a live run's files, nor anybody else's.

Only what the step, our workers or AnyVar's web API made is looked at: a folder whose manifest names it, an
upload, a removal or a check that was broken off, a file of AnyVar's. Whatever else lies there stays: a
directory with a folder for each day need not be a work dir alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anyvar_step.errors import AccessRefused, FileTrouble, Unavailable
from anyvar_step.files import remove_tree
from anyvar_step.models import Manifest
from anyvar_step.runs.liveness import Liveness
from anyvar_step.runs.state import RunState
from anyvar_step.runs.work_dir import CONFLICTS_SUFFIX, OUTPUT_SUFFIX, PREFIX, WorkDir
from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)

#: Seconds after which what nobody has touched, and nothing vouches for, is a dead run's.
SWEEP_AFTER = 2 * 86_400.0
#: What was touched within so many seconds is let be: an upload under way has no other sign of life.
YOUNGEST = 600.0
#: Seconds from one sweep by workers and web APIs to the next, all of them together.
SWEEP_EVERY = 600

#: AnyVar's web API does not pad its day folders: 2026115 is one of its.
_DAY = re.compile(r"\d{6,8}")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ENDING = f"(?:{OUTPUT_SUFFIX}|{CONFLICTS_SUFFIX})"
#: A file of AnyVar's web API or worker, or the part that our worker writes in its stead.
_ANYVARS = re.compile(rf"({_UUID}){_ENDING}?|\.({_UUID}){_ENDING}\.[0-9a-f]{{12}}")


@dataclass(frozen=True)
class Left:
    """What a dead run left: where, what it is, its bytes; ``gone`` tells whether it was removed."""

    path: Path
    what: str
    size: int
    gone: bool


def sweep(
    settings: Settings,
    workdir: WorkDir,
    older_than: float = SWEEP_AFTER,
    *,
    results_older_than: float | None = None,
    dry_run: bool = False,
) -> Iterator[Left]:
    """Remove what dead runs left and nobody has touched for that many seconds; with ``dry_run`` only tell.

    ``results_older_than`` is the same for finished runs, whose result has expired on the board and which
    nobody can collect any more. Neither counts below YOUNGEST.

    Raises Unavailable where Redis cannot say what lives, or has started a moment ago.
    """
    workdir.check()
    with Liveness(settings) as signs, RunState(settings) as board:
        if not signs.settled():
            raise Unavailable(
                "Redis has started less than a minute ago and may not know of all live runs yet",
                "Sweep again in a minute",
            )
        finished = older_than if results_older_than is None else results_older_than
        sweeper = _Sweeper(settings, workdir, signs, board, older_than, finished)
        for entry in workdir.root.glob(f"{PREFIX}*"):
            yield from sweeper.look(entry, dry_run)
        for day in _folders(workdir.root):
            for entry in _entries(day):
                yield from sweeper.look(entry, dry_run)
            if not dry_run:
                _drop_empty(day)


def take_turn(settings: Settings, workdir: WorkDir) -> None:
    """Sweep on behalf of all workers and web APIs of the work dir, unless one has in the last minutes."""
    with Liveness(settings) as signs:
        if not (signs.settled() and signs.take_turn(workdir.root, SWEEP_EVERY)):
            return
    for left in sweep(settings, workdir, results_older_than=float(settings.result_expires)):
        if left.gone:
            _logger.info("removed %s: %s", left.what, left.path)


class _Sweeper:
    """Judges the entries of day folders one by one, and removes those that are dead."""

    def __init__(
        self,
        settings: Settings,
        workdir: WorkDir,
        signs: Liveness,
        board: RunState,
        older_than: float,
        results_older_than: float,
    ) -> None:
        self._workdir = workdir
        self._signs = signs
        self._board = board
        self._older_than = max(older_than, YOUNGEST)
        self._finished = max(results_older_than, YOUNGEST)
        # A run may work for so long on a file of AnyVar's, and its result be there to be fetched for so long.
        self._anyvars = max(older_than, float(settings.result_expires + settings.task_time_limit))

    def look(self, entry: Path, dry_run: bool) -> Iterator[Left]:
        """What the entry is, if a dead run left it; removed unless it is a dry run.

        One that cannot be read is somebody else's: it stays, and the sweep goes on. A Redis that does not
        answer ends it.
        """
        try:
            left = self._look(entry, dry_run)
        except FileNotFoundError:  # somebody else tidies up, too
            return
        except OSError as trouble:
            _logger.warning("%s is left as it is: %s", entry, trouble)
            return
        if left is not None:
            yield left

    def _look(self, entry: Path, dry_run: bool) -> Left | None:
        if entry.is_symlink():
            return None
        manifest = self._manifest(entry)
        size, touched = _extent(entry)
        what = self._dead(entry, manifest, time.time() - touched)
        if what is None:
            return None
        gone = not dry_run and self._remove(entry, manifest)
        return Left(entry, what, size, gone) if gone or entry.exists() else None

    def _dead(self, entry: Path, manifest: Manifest | None, untouched: float) -> str | None:
        """In words, what it is that a dead run left here; None for what lives, is young or is not ours."""
        name, old = entry.name, untouched >= self._older_than
        if not entry.is_dir():
            match = _ANYVARS.fullmatch(name)
            old = untouched >= self._anyvars
            dead = match and old and not self._signs.queued(match[1] or match[2])
            return "a file of AnyVar's web API" if dead else None
        if name.startswith(".stage-"):
            return "a staged input without a run" if old else None
        if name.startswith(".gone-"):
            return "a removal that was broken off" if old else None
        if name.startswith(PREFIX):
            return "what a check that was killed left" if old else None
        if manifest is None:
            return None
        finished = any((entry / f"{manifest.staged_input}{end}").exists() for end in _OUTPUTS)
        if untouched < (self._finished if finished else self._older_than) or self._signs.wanted(name):
            return None
        if finished:
            return f"an expired result of {manifest.input_name}"
        return None if self._signs.queued(name) else f"a dead run of {manifest.input_name}"

    def _manifest(self, folder: Path) -> Manifest | None:
        """The manifest of a run's folder; None in a folder that is none."""
        manifest = self._read(folder) if folder.is_dir() else None
        return manifest if manifest and manifest.run_id == folder.name else None

    def _read(self, folder: Path) -> Manifest | None:
        """What stands in the folder's manifest; None where that is none, or cannot be read."""
        try:
            return self._workdir.manifest(folder)
        except (FileTrouble, AccessRefused) as trouble:
            _logger.warning("%s: left as it is", trouble)
            return None

    def _remove(self, entry: Path, manifest: Manifest | None) -> bool:
        """Remove it; whether it is gone. What comes to life again meanwhile is put back."""
        if not entry.is_dir():
            with contextlib.suppress(OSError):
                entry.unlink()
            return not entry.exists()

        def lives(aside: Path) -> bool:
            return manifest is not None and (
                self._read(aside) != manifest or self._signs.wanted(manifest.run_id)
            )

        gone = remove_tree(entry, spare=lives)
        if gone and manifest:
            self._board.forget(manifest.run_id, manifest.digest)
        return gone


_OUTPUTS = (OUTPUT_SUFFIX, CONFLICTS_SUFFIX)


def _folders(root: Path) -> list[Path]:
    """The folders of days, ours and AnyVar's."""
    return sorted(
        day for day in root.iterdir() if _DAY.fullmatch(day.name) and day.is_dir() and not day.is_symlink()
    )


def _entries(day: Path) -> list[Path]:
    """What lies in a day's folder; nothing where that cannot be read."""
    try:
        return sorted(day.iterdir())
    except OSError as trouble:
        _logger.warning("%s is left as it is: %s", day, trouble)
        return []


def _extent(entry: Path) -> tuple[int, float]:
    """Bytes in a file, or in a folder's files; and when it was touched last."""
    found = entry.lstat()
    size, touched = 0 if entry.is_dir() else found.st_size, found.st_mtime
    if entry.is_dir():
        for inner in os.scandir(entry):
            with contextlib.suppress(FileNotFoundError):
                stat = inner.stat(follow_symlinks=False)
                size, touched = size + stat.st_size, max(touched, stat.st_mtime)
    return size, touched


def _drop_empty(day: Path) -> None:
    """Remove an empty day folder, but none in which a host may just be about to stage something."""
    now = datetime.now(UTC)
    near = [now + timedelta(days=days) for days in (-1, 0, 1)]
    if day.name not in {name for d in near for name in (f"{d:%Y%m%d}", f"{d.year}{d.month}{d.day}")}:
        with contextlib.suppress(OSError):
            day.rmdir()
