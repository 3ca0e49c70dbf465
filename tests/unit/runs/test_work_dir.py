"""The work dir on a real filesystem: nothing half-made shows, nothing is renamed over or leads out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from anyvar_step import files
from anyvar_step.errors import AccessRefused, FileTrouble, RunLost
from anyvar_step.models import AnnotateOptions, Counts, IngestOptions, Manifest, Registered, RunReport
from anyvar_step.runs.work_dir import Staged, WorkDir, answer


@pytest.fixture
def workdir(tmp_path: Path) -> WorkDir:
    (tmp_path / "work").mkdir()
    return WorkDir(tmp_path / "work", latency_wait=0.3)


def manifest(staged: Staged, run_id: str = "run-1") -> Manifest:
    return Manifest(
        run_id=run_id,
        digest="0" * 64,
        input_name="in.vcf",
        input_size=staged.size,
        input_sha256=staged.sha256,
        options=AnnotateOptions(),
        folder=f"{staged.folder.parent.name}/{run_id}",
        staged_input=staged.input_name,
        submitted="2026-11-23T00:00:00+00:00",
    )


def test_a_staged_input_appears_with_its_manifest_all_at_once(workdir: WorkDir, tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    (tmp_path / "in").write_bytes(content)
    with (tmp_path / "in").open("rb") as source:
        staged = workdir.stage(source, "input.vcf")
    assert workdir.find("run-1") is None
    assert (staged.size, staged.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    folder = workdir.commit(staged, manifest(staged))
    assert workdir.find("run-1") == folder
    assert (folder / "input.vcf").read_bytes() == content
    assert workdir.manifest(folder) == manifest(staged)
    assert [path.name for path in folder.parent.iterdir()] == ["run-1"]


def test_standard_input_is_staged_as_a_file_is(workdir: WorkDir) -> None:
    reading, writing = os.pipe()
    content = os.urandom(300_000)

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reading, "rb") as source:
        staged = workdir.stage(source, "input.vcf")
    thread.join()
    assert staged.sha256 == hashlib.sha256(content).hexdigest()
    assert (staged.folder / "input.vcf").read_bytes() == content


class BreaksOff(io.BytesIO):
    """A source that fails after its first block, as a lost mount does."""

    def read(self, size: int | None = -1) -> bytes:  # noqa: ARG002
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(10)

    def seekable(self) -> bool:
        return False


def test_a_copy_that_breaks_off_leaves_nothing(workdir: WorkDir) -> None:
    with pytest.raises(FileTrouble, match="cannot stage the input"):
        workdir.stage(BreaksOff(b"x" * 100), "input.vcf")
    assert [path for path in workdir.root.rglob("*") if path.is_file() or path.name.startswith(".")] == []


def test_the_kernels_copy_and_ours_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(5_000_000)
    (tmp_path / "in").write_bytes(content)
    expected = (len(content), hashlib.sha256(content).hexdigest())
    for name in ("kernel", "ours"):
        with (tmp_path / "in").open("rb") as source, (tmp_path / name).open("wb") as target:
            assert files.copy_and_hash(source, target) == expected
        assert (tmp_path / name).read_bytes() == content
        monkeypatch.delattr(os, "copy_file_range", raising=False)


def test_publishing_never_replaces_what_another_worker_published(workdir: WorkDir) -> None:
    final = workdir.root / "out"
    for content in (b"first", b"second"):
        part = workdir.new_part(final)
        part.write_bytes(content)
        workdir.publish(part, final)
    assert final.read_bytes() == b"first"
    assert [path.name for path in workdir.root.iterdir()] == ["out"]


def test_a_file_that_shows_late_is_waited_for(workdir: WorkDir) -> None:
    path = workdir.root / "late"
    threading.Timer(0.1, path.write_bytes, [b"12345"]).start()
    workdir.await_file(path, 5)
    with pytest.raises(FileTrouble, match="has not appeared whole"):
        workdir.await_file(path, 6)


def test_waiting_for_a_file_ends_when_its_run_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RunLost):
        WorkDir(tmp_path, latency_wait=30).await_file(tmp_path / "never", gone=lambda: True)


def test_a_path_is_mapped_to_where_the_workers_see_it_and_back(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path, worker_root=Path("/mnt/scratch"))
    path = tmp_path / "20261123" / "run" / "input.vcf"
    assert workdir.worker_path(path) == "/mnt/scratch/20261123/run/input.vcf"
    assert workdir.local_path("/mnt/scratch/20261123/run/input.vcf") == path
    for bad in ("/etc/passwd", "/mnt/scratch/../../etc/passwd"):
        with pytest.raises((AccessRefused, FileTrouble)):
            workdir.local_path(bad)


def test_a_damaged_manifest_is_a_clear_failure(workdir: WorkDir) -> None:
    (workdir.root / "manifest.json").write_text('{"run_id": 5')
    with pytest.raises(FileTrouble, match=r"manifest .* cannot be read"):
        workdir.manifest(workdir.root)


@pytest.mark.parametrize(
    "folder", ["", "/", "/run-1", "20261123/", "../run-1", "20261123/../run-1", "etc/run-1"]
)
def test_a_ticket_never_names_a_folder_but_its_runs_own(workdir: WorkDir, folder: str) -> None:
    """Folders are removed by that name, and a ticket over HTTP has an empty one: the work dir itself."""
    ticket = manifest(Staged(workdir.root / "20261123" / ".stage-1", "input.vcf", 1, "0" * 64))
    assert workdir.folder(ticket) == workdir.root / "20261123" / "run-1"
    with pytest.raises(AccessRefused, match="no run's folder"):
        workdir.folder(ticket.model_copy(update={"folder": folder}))
    with pytest.raises(AccessRefused, match="names no file"):
        workdir.folder(ticket.model_copy(update={"staged_input": "../../input.vcf"}))


@pytest.mark.parametrize("kind", ["fifo", "symlink", "huge"])
def test_what_is_no_plain_small_manifest_is_refused_at_once(workdir: WorkDir, kind: str) -> None:
    path = workdir.root / "manifest.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 1 << 30)
    with pytest.raises((AccessRefused, FileTrouble)):
        workdir.manifest(workdir.root)


@pytest.mark.parametrize("path", ["/work\0", "relative", "/" + "x" * 5000, "/loop/x"])
def test_a_path_that_is_none_is_refused(workdir: WorkDir, path: str) -> None:
    (workdir.root / "loop").symlink_to("loop")
    with pytest.raises(AccessRefused):
        workdir.contained(Path(path.replace("/loop", f"{workdir.root}/loop")))


@pytest.mark.parametrize("options", [AnnotateOptions(for_ref=False), IngestOptions(require_validation=True)])
def test_what_a_later_version_says_beyond_us_is_passed_over(
    workdir: WorkDir, options: AnnotateOptions | IngestOptions
) -> None:
    staging = workdir.open_staging("input.vcf")
    staging.write(b"x")
    staged = staging.finish()
    ticket = manifest(staged).model_copy(update={"options": options})
    folder = workdir.commit(staged, ticket)
    did = {"output_size": 1, "output_sha256": "", "options": options, "seconds": {"read": 1.0}}
    report = RunReport.on(
        ticket, counts=Counts(records=3), registered=Registered(alleles=3, added=None), **did
    )
    asked, told = ticket.model_dump(), report.model_dump()
    for part in (asked, asked["options"], told, told["options"], told["counts"], told["registered"]):
        part["news"] = [1]
    (folder / "manifest.json").write_text(json.dumps(asked))
    (folder / "input.vcf_report.json").write_text(json.dumps(told))
    assert workdir.manifest(folder) == ticket
    assert workdir.report(folder, ticket) == report


# -- a work dir that several users share --------------------------------------------------------------------

#: Ids of no account; the tests that need them run as root.
FIRST, SECOND, GROUP = 61001, 61002, 61003


def _as_user(uid: int, act: Callable[[], object]) -> object:
    """What the act returns, or the exception it raises, in a process of that user and of GROUP."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([GROUP])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o077)
            result: object = act()
        except BaseException as error:
            result = error
        with os.fdopen(writer, "wb") as out:
            pickle.dump((type(result).__name__, str(result)), out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        result = pickle.load(said)
    os.waitpid(child, 0)
    return result


@pytest.fixture
def shared() -> Iterator[Path]:
    """A work dir below a folder that all users may enter."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED WITH SEVERAL USERS: that needs root")
    with tempfile.TemporaryDirectory(prefix="anyvar-shared-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "work"
        root.mkdir()
        os.chown(root, FIRST, GROUP)
        yield root


def _stage_one(root: Path, run_id: str) -> str:
    workdir = WorkDir(root)
    staging = workdir.open_staging("input.vcf")
    staging.write(b"text")
    staged = staging.finish()
    return str(workdir.commit(staged, manifest(staged, run_id)))


@pytest.mark.parametrize("mode", [0o2770, 0o770, 0o2775])
def test_the_first_user_of_a_day_locks_nobody_out(shared: Path, mode: int) -> None:
    """With a umask of 077, 1.1.0 made day folders that no other user could enter."""
    shared.chmod(mode)
    for number, uid in enumerate((FIRST, SECOND)):
        kind, folder = _as_user(uid, lambda: _stage_one(shared, f"run-{number}"))  # noqa: B023  # type: ignore[misc]
        assert kind == "str", folder
        found = [
            Path(folder),
            Path(folder).parent,
            Path(folder) / "input.vcf",
            Path(folder) / "manifest.json",
        ]
        assert [path.stat().st_gid for path in found] == [GROUP] * 4
        assert [stat.S_IMODE(path.stat().st_mode) for path in found] == [0o2770, 0o2770, 0o660, 0o660]
    kind, folder = _as_user(
        SECOND, lambda: files.remove_tree(shared / Path(str(folder)).parent.name / "run-0")
    )  # type: ignore[misc]
    assert (kind, folder) == ("bool", "True")


def test_a_day_folder_that_is_closed_is_named_with_umask_and_remedy(shared: Path) -> None:
    shared.chmod(0o2770)
    day = shared / datetime.now(UTC).strftime("%Y%m%d")
    day.mkdir()
    os.chown(day, FIRST, FIRST)
    day.chmod(0o700)
    for act in (lambda: _stage_one(shared, "run-1"), lambda: WorkDir(shared).check()):
        kind, message = _as_user(SECOND, act)  # type: ignore[misc]
        assert kind == "AccessRefused"
        assert f"{day} is closed to this user: mode 0700" in message
        assert f"umask of its creator closed it: chmod 2770 {day}" in message


def test_a_private_work_dir_stays_private(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir(mode=0o700)
    before = os.umask(0o027)
    try:
        folder = Path(_stage_one(root, "run-1"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) & 0o777 == 0o750
    assert stat.S_IMODE((folder / "input.vcf").stat().st_mode) == 0o640


@pytest.mark.parametrize("dangling", [False, True])
def test_a_day_folder_that_is_a_symlink_is_not_followed(
    workdir: WorkDir, tmp_path: Path, dangling: bool
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if not dangling:
        elsewhere.mkdir()
    (workdir.root / datetime.now(UTC).strftime("%Y%m%d")).symlink_to(elsewhere)
    for act in (
        lambda: workdir.stage(io.BytesIO(b"text"), "input.vcf"),
        lambda: workdir.open_staging("i.vcf"),
    ):
        with pytest.raises(AccessRefused, match="symlinks are not followed"):
            act()
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_a_day_folder_that_becomes_a_symlink_gets_no_run(workdir: WorkDir, tmp_path: Path) -> None:
    staged = workdir.open_staging("input.vcf").finish()
    day = staged.folder.parent
    day.rename(tmp_path / "elsewhere")
    day.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AccessRefused, match="symlink"):
        workdir.commit(staged, manifest(staged))


def test_a_probe_folder_that_is_a_symlink_is_not_answered(workdir: WorkDir) -> None:
    inside = workdir.root / "inside"
    inside.mkdir()
    (inside / "probe").write_bytes(b"x")
    (workdir.root / f".check-{'0' * 16}").symlink_to(inside)
    with pytest.raises(AccessRefused, match="symlink"):
        answer(workdir, "0" * 16)
    assert [path.name for path in inside.iterdir()] == ["probe"]
