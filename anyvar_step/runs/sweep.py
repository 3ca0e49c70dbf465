"""Sweeping the work dir: files of dead runs are removed, never those of live runs or of other programs.

A sweep considers only what step, worker and AnyVar's web API create: folders of runs with their manifest,
folders of uploads, removals and checks that were broken off, and AnyVar's files. All else stays: a directory
with a folder for each day may be more than a work dir.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from anyvar_step.errors import AccessRefused, FileTrouble, Unavailable
from anyvar_step.files import remove_tree
from anyvar_step.models import Manifest
from anyvar_step.runs.connection import backend, broker, now
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.runs.state import RunState
from anyvar_step.runs.work_dir import CONFLICTS_SUFFIX, OUTPUT_SUFFIX, PROBE_PREFIX, WorkDir
from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)

#: Seconds without a change after which what belongs to no live run is a dead run's.
SWEEP_AFTER = 2 * 86_400.0
#: What was changed within so many seconds stays: an upload under way has no other sign of life.
YOUNGEST = 600.0
#: Seconds from one sweep by workers and web APIs to the next, all of them together.
SWEEP_EVERY = 600

#: Kombu's hash of the messages that workers have taken and not yet acknowledged.
UNACKED = "unacked"
#: Messages read from the queue at once.
_PAGE = 500
#: Seconds after its start from which a Redis has all leases again: steps renew theirs every 20 s.
SETTLED_SECONDS = 30.0

#: AnyVar's web API does not pad its day folders: 2026115 is one of its.
_DAY = re.compile(r"\d{6,8}")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OUTPUTS = (OUTPUT_SUFFIX, CONFLICTS_SUFFIX)
_ENDING = f"(?:{'|'.join(_OUTPUTS)})"
#: A file of AnyVar's web API or worker, or the part that our worker writes in its stead.
_ANYVARS = re.compile(rf"({_UUID}){_ENDING}?|\.({_UUID}){_ENDING}\.[0-9a-f]{{12}}")


@dataclass(frozen=True)
class Leftover:
    """Something that a dead run left: its path, a description, its bytes, and whether it was removed."""

    path: Path
    what: str
    size: int
    removed: bool


def sweep(
    settings: Settings,
    workdir: WorkDir,
    older_than: float = SWEEP_AFTER,
    *,
    results_older_than: float | None = None,
    dry_run: bool = False,
) -> Iterator[Leftover]:
    """Remove what dead runs left, if unchanged for that many seconds; with ``dry_run`` only list it.

    ``results_older_than`` is the same for finished runs whose result has expired, so that no step can collect
    it. Neither counts below YOUNGEST.

    Raises Unavailable where Redis cannot say what lives, or has started a moment ago.
    """
    workdir.check()
    with Liveness(settings) as liveness, RunState(settings) as state:
        if not liveness.settled():
            raise Unavailable(
                "Redis has started less than a minute ago and may not know of all live runs yet",
                "Sweep again in a minute",
            )
        sweeper = _Sweeper(
            workdir,
            liveness,
            state,
            older_than=max(older_than, YOUNGEST),
            finished=max(older_than if results_older_than is None else results_older_than, YOUNGEST),
            # A run may work for so long on a file of AnyVar's, and its result be there for so long.
            anyvars=max(older_than, float(settings.result_expires + settings.task_time_limit)),
            dry_run=dry_run,
        )
        for entry in workdir.root.glob(f"{PROBE_PREFIX}*"):
            yield from sweeper.check(entry)
        for day in _folders(workdir.root):
            for entry in _entries(day):
                yield from sweeper.check(entry)
            if not dry_run:
                _drop_empty(day)


def sweep_if_due(settings: Settings, workdir: WorkDir) -> None:
    """Sweep the work dir unless one of its workers and web APIs has within SWEEP_EVERY seconds."""
    with Liveness(settings) as liveness:
        if not (liveness.settled() and liveness.reserve_sweep(workdir.root, SWEEP_EVERY)):
            return
    for leftover in sweep(settings, workdir, results_older_than=float(settings.result_expires)):
        if leftover.removed:
            _logger.info("removed %s: %s", leftover.what, leftover.path)


class Liveness:
    """Tells whether a run is live: it has a state, a lock, a step's lease, or a message on the broker.

    The state alone does not tell: without a step that polls the run, it expires while its message still
    waits. Reads backend and broker over two connections, opened at first use; not thread-safe. All methods
    raise Unavailable or AccessRefused where Redis does not answer: then a run counts as live.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backend = backend(settings)
        self._broker = broker(settings)
        self._messages: set[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()
        self._broker.close()

    def settled(self) -> bool:
        """Whether Redis has been up for long enough that every waiting step has renewed its lease.

        A Redis that lost its data at a restart knows of no run at first.
        """
        up: dict[str, Any] = self._backend.info("server")
        return float(up["uptime_in_seconds"]) >= SETTLED_SECONDS

    def is_live(self, run_id: str) -> bool:
        """Whether the run has a state, a lock, or the lease of a waiting step.

        The lease of a run that was submitted without waiting never expires, so it does not count.
        """
        pipe = self._backend.pipeline(transaction=False)
        pipe.exists(meta_key(run_id))
        pipe.exists(step_key("claim", run_id))
        pipe.zcount(step_key("leases", run_id), f"({now(self._backend)}", "(+inf")
        return any(pipe.execute())

    def has_message(self, name: str) -> bool:
        """Whether a message, queued or taken by a worker, is of that run or names an input file of that name.

        The messages are read once, at the first call.
        """
        if self._messages is None:
            self._messages = set(self._names())
        return name in self._messages

    def reserve_sweep(self, root: Path, seconds: int) -> bool:
        """Reserve the next sweep of that work dir; False where another process did within ``seconds``."""
        return bool(self._backend.set(sweep_key(root), int(time.time()), ex=seconds, nx=True))

    def _names(self) -> Iterator[str]:
        """Run ids and input file names; a message that moves meanwhile is seen in one of the three reads."""
        yield from self._taken()
        queue, start = self._settings.task_default_queue, 0
        while page := self._broker.lrange(queue, start, start + _PAGE - 1):
            for raw in page:
                yield from _names_in(str(raw))
            start += _PAGE
        yield from self._taken()

    def _taken(self) -> Iterator[str]:
        for _, raw in self._broker.hscan_iter(UNACKED):
            yield from _names_in(str(raw))


def sweep_key(root: Path) -> str:
    """The key that stands while no sweep of that work dir is due."""
    return step_key("turn", hashlib.sha256(str(root).encode()).hexdigest()[:16])


def _names_in(raw: str) -> Iterator[str]:
    """The run id and the input's file name in one of kombu's messages; nothing where it is malformed."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        message = json.loads(raw)
        if isinstance(message, list):  # taken: [message, exchange, routing key]
            message = message[0]
        yield str(message["headers"]["id"])
        _, arguments, *_ = json.loads(base64.b64decode(message["body"]))
        yield Path(arguments["input_file_path"]).name


@dataclass(frozen=True)
class _Sweeper:
    """Tells for each entry of a day folder whether a dead run left it, and removes it then."""

    workdir: WorkDir
    liveness: Liveness
    state: RunState
    older_than: float  # seconds without a change
    finished: float  # the same for the folders of runs that have ended well
    anyvars: float  # the same for files of AnyVar's
    dry_run: bool

    def check(self, entry: Path) -> Iterator[Leftover]:
        """The entry as a Leftover where a dead run left it; removed unless it is a dry run.

        An entry that cannot be read stays, and the sweep goes on. A Redis that does not answer ends it.
        """
        try:
            if entry.is_symlink():
                return
            manifest = self._manifest(entry) if entry.is_dir() else None
            if manifest and manifest.run_id != entry.name:
                manifest = None
            size, touched = _extent(entry)
            what = self._dead(entry, manifest, time.time() - touched)
            if what is None:
                return
            removed = not self.dry_run and self._remove(entry, manifest)
            if removed or entry.exists():
                yield Leftover(entry, what, size, removed)
        except FileNotFoundError:  # another sweep removed it
            return
        except OSError as trouble:
            _logger.warning("%s is left as it is: %s", entry, trouble)

    def _dead(self, entry: Path, manifest: Manifest | None, untouched: float) -> str | None:
        """A description of what a dead run left here; None for what is live, young or not ours."""
        name, old = entry.name, untouched >= self.older_than
        if not entry.is_dir():
            match = _ANYVARS.fullmatch(name)
            old = untouched >= self.anyvars
            dead = match and old and not self.liveness.has_message(match[1] or match[2])
            return "a file of AnyVar's web API" if dead else None
        if name.startswith(".stage-"):
            return "a staged input without a run" if old else None
        if name.startswith(".gone-"):
            return "a removal that was broken off" if old else None
        if name.startswith(PROBE_PREFIX):
            return "what a check that was killed left" if old else None
        if manifest is None:
            return None
        finished = any((entry / f"{manifest.staged_input}{end}").exists() for end in _OUTPUTS)
        if untouched < (self.finished if finished else self.older_than) or self.liveness.is_live(name):
            return None
        if finished:
            return f"an expired result of {manifest.input_name}"
        return None if self.liveness.has_message(name) else f"a dead run of {manifest.input_name}"

    def _manifest(self, folder: Path) -> Manifest | None:
        """The folder's manifest; None where there is none, or it cannot be read."""
        try:
            return self.workdir.manifest(folder)
        except (FileTrouble, AccessRefused) as trouble:
            _logger.warning("%s: left as it is", trouble)
            return None

    def _remove(self, entry: Path, manifest: Manifest | None) -> bool:
        """Remove it; whether it is gone. A run that is live after all is put back."""
        if not entry.is_dir():
            with contextlib.suppress(OSError):
                entry.unlink()
            return not entry.exists()

        def is_live(aside: Path) -> bool:
            return manifest is not None and (
                self._manifest(aside) != manifest or self.liveness.is_live(manifest.run_id)
            )

        gone = remove_tree(entry, spare=is_live)
        if gone and manifest:
            self.state.forget(manifest.run_id, manifest.digest)
        return gone


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
    today = datetime.now(UTC)
    near = [today + timedelta(days=days) for days in (-1, 0, 1)]
    if day.name not in {name for d in near for name in (f"{d:%Y%m%d}", f"{d.year}{d.month}{d.day}")}:
        with contextlib.suppress(OSError):
            day.rmdir()
