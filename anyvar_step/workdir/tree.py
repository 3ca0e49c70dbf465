"""Where the runs' folders are, and every rename of theirs: stage, commit, find, publish."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import AccessRefused, FileTrouble, from_os
from anyvar_step.files import copy_and_hash, remove_tree, sync_folder
from anyvar_step.models import NAME, Manifest, RunReport
from anyvar_step.workdir.entries import MANIFEST, REPORT_SUFFIX, create, make_folder, read_small
from anyvar_step.workdir.latency import await_file
from anyvar_step.workdir.staging import Staged, Staging

_DAY = re.compile(r"[0-9]{8}")


class WorkDir:
    """The work dir as this host sees it; ``worker_root`` is where the workers see it."""

    def __init__(
        self,
        root: Path,
        *,
        worker_root: Path | None = None,
        mode: int | None = None,
        latency_wait: float = 60.0,
    ) -> None:
        self.root = root
        self._worker_root = worker_root or root
        self.mode = mode
        self._latency_wait = latency_wait

    def check(self) -> None:
        """Raise an error with a remedy unless the work dir is a directory that we may write to."""
        remedy = "Name the directory that step and workers share in ANYVAR_VCF_ASYNC_WORK_DIR"
        if not self.root.is_dir():
            raise FileTrouble(f"the work dir {self.root} is not a directory here", remedy)
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise AccessRefused(
                f"the work dir {self.root} is not writable", "Check its owner, group and mode"
            )

    # -- the step's side ---------------------------------------------------------------------------------

    def stage(self, source: BinaryIO, input_name: str) -> Staged:
        """Copy an open input into the work dir under a temporary name; one pass copies and hashes."""
        folder = self._new_stage()
        try:
            make_folder(folder, self.mode)
            target = folder / input_name
            with create(target, self.mode) as out:
                size, digest = copy_and_hash(source, out)
                os.fsync(out.fileno())
        except BaseException as error:
            remove_tree(folder)
            if isinstance(error, OSError):
                raise from_os(error, f"cannot stage the input in {self.root}") from error
            raise
        return Staged(folder, input_name, size, digest)

    def begin(self, input_name: str) -> Staging:
        """Stage an input whose bytes are still to come."""
        folder = self._new_stage()
        try:
            make_folder(folder, self.mode)
            return Staging(folder, input_name, create(folder / input_name, self.mode))
        except OSError as error:
            remove_tree(folder)
            raise from_os(error, f"cannot stage the input in {self.root}") from error

    def _new_stage(self) -> Path:
        """A name for a folder of staged files, below today's."""
        self.check()
        day = self.root / datetime.now(UTC).strftime("%Y%m%d")
        try:
            make_folder(day, self.mode)
        except OSError as error:
            raise from_os(error, f"cannot stage the input in {self.root}") from error
        return day / f".stage-{secrets.token_hex(8)}"

    def commit(self, staged: Staged, manifest: Manifest) -> Path:
        """Write the manifest and give the staged folder its run id; the folder."""
        final = self.folder(manifest)
        try:
            with create(staged.folder / MANIFEST, self.mode) as out:
                out.write(manifest.model_dump_json(indent=1).encode())
                out.flush()
                os.fsync(out.fileno())
            sync_folder(staged.folder)
            staged.folder.rename(final)
            sync_folder(final.parent)
        except OSError as error:
            remove_tree(staged.folder)
            raise from_os(error, f"cannot stage the input in {self.root}") from error
        return final

    def restage(self, folder: Path, manifest: Manifest) -> Staged | None:
        """The staged input of a lost run, ready to be committed under another id; None where it is gone."""
        stage = folder.with_name(f".stage-{secrets.token_hex(8)}")
        try:
            if not (folder / manifest.staged_input).is_file():
                return None
            folder.rename(stage)
            if not (stage / manifest.staged_input).is_file():  # by its old name it was only remembered
                stage.rename(folder)
                return None
            for path in stage.iterdir():
                if path.name != manifest.staged_input:
                    path.unlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, f"cannot stage the input again in {folder}") from error
        return Staged(stage, manifest.staged_input, manifest.input_size, manifest.input_sha256)

    def folder(self, manifest: Manifest) -> Path:
        """The run's folder; refused where the manifest, or a ticket that was written by hand, leads out.

        Folders are removed by this name: it must be ``<yyyymmdd>/<run id>``, and nothing but that.
        """
        day, _, name = manifest.folder.partition("/")
        if not (_DAY.fullmatch(day) and name == manifest.run_id and NAME.fullmatch(name)):
            raise AccessRefused(
                f"the ticket of run {manifest.run_id!r} names {manifest.folder!r}, which is no run's folder",
                "The ticket of a run over HTTP needs --via http; else take what `submit --ticket` wrote",
            )
        if not NAME.fullmatch(manifest.staged_input):
            raise AccessRefused(f"the ticket of run {name} names no file: {manifest.staged_input!r}")
        return self.root / day / name

    def find(self, run_id: str) -> Path | None:
        """The folder of that run, None where there is none."""
        if not NAME.fullmatch(run_id):
            return None
        found = sorted(self.root.glob(f"[0-9]*/{run_id}"))
        return found[-1] if found else None

    def run(self, run_id: str) -> tuple[Path | None, Manifest | None]:
        """The folder of that run and its manifest, each None where there is none."""
        folder = self.find(run_id)
        return folder, self.manifest(folder) if folder else None

    def manifest(self, folder: Path) -> Manifest | None:
        """What stands in the folder's manifest; None where there is none, as in AnyVar's own folders."""
        try:
            manifest = Manifest.model_validate_json(read_small(folder / MANIFEST))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileTrouble(f"the manifest in {folder} cannot be read: {error}") from error
        if not NAME.fullmatch(manifest.staged_input):
            raise FileTrouble(f"the manifest in {folder} names no file: {manifest.staged_input!r}")
        return manifest

    def report(self, folder: Path, manifest: Manifest) -> RunReport | None:
        """Our worker's report on the run; None where there is none, as from AnyVar's workers."""
        path = folder / f"{manifest.staged_input}{REPORT_SUFFIX}"
        try:
            return RunReport.model_validate_json(read_small(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileTrouble(f"the report {path} cannot be read: {error}") from error

    def as_worker(self, path: Path) -> str:
        """The path as the workers name it."""
        return str(self._worker_root / path.relative_to(self.root))

    def as_step(self, path: str) -> Path:
        """The worker's path as this host names it; refused where it leads out of the work dir."""
        try:
            return self.contained(self.root / Path(path).relative_to(self._worker_root))
        except ValueError:
            raise FileTrouble(
                f"the worker answered with {path}, which is not below {self._worker_root}",
                "Set ANYVAR_STEP_WORKER_WORK_DIR to the work dir as the workers see it",
            ) from None

    def await_file(self, path: Path, size: int | None = None, gone: Callable[[], bool] | None = None) -> None:
        """Wait until this host sees the file, and in that size; RunLost when ``gone`` says so."""
        await_file(path, self._latency_wait, size, gone)

    # -- the worker's side -------------------------------------------------------------------------------

    def contained(self, path: Path) -> Path:
        """The path, if it is a plain one below the work dir; no symlink may lead out of it."""
        try:
            root, real = self.root.resolve(), path.resolve()
            inside = path.is_absolute() and real.is_relative_to(root) and real != root
            mode = path.lstat().st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG  # it may be on its way
        except (OSError, RuntimeError, ValueError) as error:  # a loop of symlinks, too long a name, a NUL
            raise AccessRefused(f"{str(path)[:200]!r} is no path in the work dir {self.root}") from error
        if not inside:
            raise AccessRefused(
                f"{path} is outside the work dir {self.root}",
                "Step, web API and workers must share ANYVAR_VCF_ASYNC_WORK_DIR",
            )
        if not stat.S_ISREG(mode):
            raise AccessRefused(f"{path} is not a regular file")
        return path

    def part_of(self, final: Path) -> Path:
        """A new, empty file of one's own, beside the final one, in which to write it."""
        part = final.with_name(f".{final.name}.{secrets.token_hex(6)}")
        create(part, self.mode).close()
        return part

    def publish(self, part: Path, final: Path) -> None:
        """Give a whole, fsynced file its name; where another worker was quicker, its file stands."""
        try:
            os.link(part, final)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            part.rename(final)  # a filesystem without hard links
            return sync_folder(final.parent)
        part.unlink()
        return sync_folder(final.parent)

    def write(self, final: Path, content: bytes) -> None:
        """Publish a small file."""
        part = self.part_of(final)
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        self.publish(part, final)
