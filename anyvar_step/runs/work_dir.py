"""The work dir: staged inputs, manifests, published outputs, and their paths for step and worker."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from anyvar_step.errors import AccessRefused, CorruptFile, FileTrouble, RunLost, from_os
from anyvar_step.files import copy_and_hash, remove_tree, sync_folder
from anyvar_step.models import NAME, Manifest, RunReport
from anyvar_step.settings import Settings

MANIFEST = "manifest.json"
#: AnyVar's worker appends this to the input's path.
OUTPUT_SUFFIX = "_outputvcf"
CONFLICTS_SUFFIX = "_conflictlog"
REPORT_SUFFIX = "_report.json"


def index_of(output: Path, sha256: str) -> Path:
    """The .tbi of an output of that hex SHA-256, so that one of another attempt is not taken for it."""
    return output.with_name(f"{output.name}.{sha256}.tbi")


_Small = TypeVar("_Small", Manifest, RunReport)
#: Bytes of a small file (manifest, report) that are read at most.
_SMALL_BYTES = 16 << 20


def _read(kind: type[_Small], path: Path, what: str) -> _Small | None:
    """The manifest or report at ``path``, None where there is none; refused where it is no plain, small file.

    A FIFO or device in its place is not waited for, no symlink followed. ``what`` names it in FileTrouble.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise AccessRefused(f"{path} is not a regular file")
            if found.st_size > _SMALL_BYTES:
                raise AccessRefused(f"{path} has {found.st_size} bytes, more than such a file ever has")
            return kind.model_validate_json(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FileTrouble(f"{what} cannot be read: {error}") from error


@dataclass(frozen=True)
class Modes:
    """Modes and group of what is created in a work dir; None = by the umask, as the creator's group.

    A work dir that its group may write to is shared: files are 0660 and folders 0770 whatever the umask, with
    its group, or the first user of a day would lock out all others. Nothing is ever open to all users unless
    ANYVAR_STEP_WORK_DIR_MODE says so.
    """

    file: int | None = None
    folder: int | None = None
    group: int | None = None

    @classmethod
    def of(cls, root: Path, mode: int | None) -> Modes:
        """Those of the work dir at ``root``, with the configured file mode."""
        try:
            found = root.stat()
        except OSError:
            return cls(mode)
        if mode is not None:
            return cls(mode, mode | (mode & 0o444) >> 2, found.st_gid if found.st_mode & 0o020 else None)
        return cls(0o660, 0o770, found.st_gid) if found.st_mode & 0o020 else cls()


@contextlib.contextmanager
def _os_errors(doing: str) -> Iterator[None]:
    """Translate OSErrors as ``errors.from_os`` does."""
    try:
        yield
    except OSError as error:
        raise from_os(error, doing) from error


def create(path: Path, modes: Modes) -> BinaryIO:
    """A new file for the owner and the group, as far as the umask or the modes let them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o660)
    with contextlib.suppress(PermissionError):
        if modes.group not in (None, os.fstat(descriptor).st_gid):
            os.fchown(descriptor, -1, modes.group)
    if modes.file is not None:
        os.fchmod(descriptor, modes.file)
    return os.fdopen(descriptor, "wb")


def _create_with(content: bytes, path: Path, modes: Modes) -> None:
    """A new, durable file with that content."""
    with create(path, modes) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def make_folder(path: Path, modes: Modes) -> None:
    """A new folder whose files belong to the work dir's group (set-gid). Raises FileExistsError."""
    path.mkdir(mode=0o770)
    found = path.stat()
    with contextlib.suppress(PermissionError):
        if modes.group not in (None, found.st_gid):
            os.chown(path, -1, modes.group)
    with contextlib.suppress(PermissionError):
        path.chmod((stat.S_IMODE(found.st_mode) if modes.folder is None else modes.folder) | stat.S_ISGID)


def make_day(path: Path, modes: Modes) -> None:
    """The folder of a day, if it is not there. Raises AccessRefused for a symlink, and where it is closed."""
    deadline = time.monotonic() + 1.0
    with contextlib.suppress(FileExistsError):
        make_folder(path, modes)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise AccessRefused(f"{path} is no directory of the work dir", "Remove it; symlinks are not followed")
    # Between mkdir and chmod of another process it is as its umask has it.
    while not os.access(path, os.W_OK | os.X_OK):
        if time.monotonic() > deadline:
            raise AccessRefused(
                f"{path} is closed to this user: mode {stat.S_IMODE(path.stat().st_mode):04o}, "
                f"owner {path.stat().st_uid}, group {path.stat().st_gid}",
                f"The umask of its creator closed it: chmod 2770 {path}, and chmod 2770 {path.parent} with a "
                "common group of all users, for the folders of other days",
            )
        time.sleep(0.05)


def _shows(path: Path, size: int | None) -> bool:
    """Whether this host sees the file, and in that size.

    NFS clients cache "not there": listing the parent makes them look again (docs/contract.md#file-systems).
    """
    try:
        os.listdir(path.parent)  # noqa: PTH208  # for its effect on the NFS client, not for its answer
        # Without waiting for the other end of a FIFO.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return size is None or os.fstat(file.fileno()).st_size == size
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise from_os(error, f"cannot read {path}") from error


@dataclass(frozen=True)
class Staged:
    """An input copied into the work dir, not yet visible under a run id."""

    folder: Path
    input_name: str
    size: int
    sha256: str


class Staging:
    """An input that arrives in pieces, such as an upload; ended by ``discard`` or ``finish``."""

    def __init__(self, folder: Path, input_name: str, file: BinaryIO) -> None:
        self._folder = folder
        self._input_name = input_name
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append a piece. Raises FileTrouble where the disk is full."""
        with _os_errors(f"cannot stage the input in {self._folder.parent}"):
            self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def finish(self) -> Staged:
        """Make it durable; the caller commits it or removes its folder."""
        with _os_errors(f"cannot stage the input in {self._folder.parent}"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return Staged(self._folder, self._input_name, self.size, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove what has been written."""
        with contextlib.suppress(OSError):
            self._file.close()
        remove_tree(self._folder)


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
        self._mode = mode
        self._latency_wait = latency_wait

    @classmethod
    def of(cls, settings: Settings, longest_wait: float = math.inf) -> WorkDir:
        """The configured one; it waits for files as it is configured to, at most ``longest_wait`` seconds."""
        return cls(
            settings.required_work_dir(),
            worker_root=settings.worker_work_dir,
            mode=settings.work_dir_mode,
            latency_wait=min(settings.latency_wait, longest_wait),
        )

    @property
    def modes(self) -> Modes:
        """Modes and group of new files and folders."""
        return Modes.of(self.root, self._mode)

    def check(self) -> None:
        """Raise an error with a remedy unless we may write to the work dir, and to today's folder in it."""
        remedy = "Name the directory that step and workers share in ANYVAR_VCF_ASYNC_WORK_DIR"
        if not self.root.is_dir():
            raise FileTrouble(f"the work dir {self.root} is not a directory here", remedy)
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise AccessRefused(
                f"the work dir {self.root} is not writable",
                f"Check its owner, group and mode: chmod 2770 {self.root}, with a common group of all users",
            )
        if self._today().exists():
            make_day(self._today(), self.modes)

    def _today(self) -> Path:
        return self.root / datetime.now(UTC).strftime("%Y%m%d")

    # -- the step's side ---------------------------------------------------------------------------------

    def stage(self, source: BinaryIO, input_name: str) -> Staged:
        """Copy an open input into the work dir under a temporary name; one pass copies and hashes."""
        with self._new_stage() as folder, create(folder / input_name, self.modes) as out:
            size, digest = copy_and_hash(source, out)
            os.fsync(out.fileno())
        return Staged(folder, input_name, size, digest)

    def open_staging(self, input_name: str) -> Staging:
        """A staging folder for an input that arrives in pieces."""
        with self._new_stage() as folder:
            return Staging(folder, input_name, create(folder / input_name, self.modes))

    @contextlib.contextmanager
    def _new_stage(self) -> Iterator[Path]:
        """A new folder for staged files, below today's; removed where the block fails."""
        self.check()
        folder = self._today() / f".stage-{secrets.token_hex(8)}"
        with _os_errors(f"cannot stage the input in {self.root}"):
            make_day(folder.parent, self.modes)
            try:
                make_folder(folder, self.modes)
                yield folder
            except BaseException:
                remove_tree(folder)
                raise

    def commit(self, staged: Staged, manifest: Manifest) -> Path:
        """Write the manifest and give the staged folder its run id; the folder."""
        final = self.folder(manifest)
        if final.parent.is_symlink():
            remove_tree(staged.folder)
            raise AccessRefused(f"{final.parent} is a symlink, which is not followed")
        with _os_errors(f"cannot stage the input in {self.root}"):
            try:
                content = manifest.model_dump_json(indent=1).encode()
                _create_with(content, staged.folder / MANIFEST, self.modes)
                sync_folder(staged.folder)
                staged.folder.rename(final)
                sync_folder(final.parent)
            except OSError:
                remove_tree(staged.folder)
                raise
        return final

    def restage(self, folder: Path, manifest: Manifest) -> Staged | None:
        """The staged input of a lost run, ready to be committed under another id; None where it is gone."""
        stage = folder.with_name(f".stage-{secrets.token_hex(8)}")
        try:
            if not (folder / manifest.staged_input).is_file():
                return None
            folder.rename(stage)
            if not (stage / manifest.staged_input).is_file():  # NFS had cached its old name
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

    def find_run(self, run_id: str) -> tuple[Path | None, Manifest | None]:
        """The folder of that run and its manifest, each None where there is none."""
        folder = self.find(run_id)
        return folder, self.manifest(folder) if folder else None

    def manifest(self, folder: Path) -> Manifest | None:
        """The manifest in the folder; None where there is none, as in AnyVar's own folders."""
        manifest = _read(Manifest, folder / MANIFEST, f"the manifest in {folder}")
        if manifest and not NAME.fullmatch(manifest.staged_input):
            raise FileTrouble(f"the manifest in {folder} names no file: {manifest.staged_input!r}")
        return manifest

    def report(self, folder: Path, manifest: Manifest) -> RunReport | None:
        """Our worker's report on the run; None where there is none, as from AnyVar's workers."""
        path = folder / f"{manifest.staged_input}{REPORT_SUFFIX}"
        return _read(RunReport, path, f"the report {path}")

    def worker_path(self, path: Path) -> str:
        """The path as the workers name it."""
        return str(self._worker_root / path.relative_to(self.root))

    def local_path(self, path: str) -> Path:
        """The worker's path as this host names it; refused where it leads out of the work dir."""
        try:
            return self.contained(self.root / Path(path).relative_to(self._worker_root))
        except ValueError:
            raise FileTrouble(
                f"the worker answered with {path}, which is not below {self._worker_root}",
                "Set ANYVAR_STEP_WORKER_WORK_DIR to the work dir as the workers see it",
            ) from None

    def await_file(self, path: Path, size: int | None = None, gone: Callable[[], bool] | None = None) -> None:
        """Wait until this host sees the file, and in that size; RunLost when ``gone`` says so.

        Raises FileTrouble after the latency wait, CorruptFile where the size it must have is known.
        """
        seconds, pause = self._latency_wait, 0.05
        deadline = time.monotonic() + seconds
        while not _shows(path, size):
            if pause > 1 and gone is not None and gone():
                raise RunLost(f"{path} is gone: the run has ended elsewhere")
            if time.monotonic() >= deadline:
                if size is not None:
                    raise CorruptFile(
                        f"{path} has not appeared whole ({size} bytes) within {seconds:g} s", "Run it again"
                    )
                raise FileTrouble(
                    f"{path} has not appeared within {seconds:g} s",
                    "Is the work dir one and the same for step and workers? See ANYVAR_STEP_WORKER_WORK_DIR; "
                    "a slow shared filesystem may need a longer --latency-wait",
                )
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    # -- the worker's side -------------------------------------------------------------------------------

    def contained(self, path: Path) -> Path:
        """The path, if it names a regular file, or nothing yet, below the work dir; else AccessRefused."""
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

    def new_part(self, final: Path) -> Path:
        """A new, empty file of a random name beside the final one, to be written and then published."""
        part = _part_name(final)
        create(part, self.modes).close()
        return part

    def publish(self, part: Path, final: Path) -> None:
        """Give a whole, fsynced file its name; a file that another worker published first stays."""
        try:
            os.link(part, final)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            part.rename(final)  # a filesystem without hard links
        part.unlink(missing_ok=True)
        sync_folder(final.parent)

    def write(self, final: Path, content: bytes) -> None:
        """Publish a small file."""
        part = _part_name(final)
        _create_with(content, part, self.modes)
        self.publish(part, final)


def _part_name(final: Path) -> Path:
    return final.with_name(f".{final.name}.{secrets.token_hex(6)}")


#: The probe's folder is ``.check-<token>`` at the work dir's top; the sweep removes what a killed check left.
PROBE_PREFIX = ".check-"
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
    folder = workdir.root / f"{PROBE_PREFIX}{token}"
    content = secrets.token_bytes(64)
    try:
        with _os_errors(f"cannot write into the work dir {workdir.root}"):
            make_folder(folder, workdir.modes)
            _create_with(content, folder / _PROBE, workdir.modes)
        yield Probe(folder, content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answer(workdir: WorkDir, token: str) -> str:
    """Read the probe and write an answer beside it; the answer's name. The worker's side."""
    path = workdir.contained(workdir.root / f"{PROBE_PREFIX}{token}" / _PROBE)
    if path.parent.is_symlink():
        raise AccessRefused(f"{path.parent} is a symlink, which is not followed")
    workdir.await_file(path)
    name = f"answer-{secrets.token_hex(8)}"
    with _os_errors(f"cannot answer in the work dir {workdir.root}"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        workdir.write(path.with_name(name), digest.encode())
    return name


def check_answer(workdir: WorkDir, laid: Probe, name: str) -> None:
    """Raise FileTrouble or AccessRefused unless a worker's answer shows here and fits."""
    if not _ANSWER.fullmatch(name):
        raise FileTrouble(f"{name[:40]!r} is no answer's name")
    path = workdir.contained(laid.folder / name)
    workdir.await_file(path)
    with _os_errors(f"cannot read what a worker wrote, {path}"):
        said = path.read_bytes()
    if said != hashlib.sha256(laid.content).hexdigest().encode():
        raise FileTrouble(f"{path} is not what a worker would have written after reading the probe")
