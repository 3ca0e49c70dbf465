"""Folders that are removed, or become read-only, during a run: work dir, day folder, OUT's directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.harness import Call, Campaign, Fault, Trial, fault
from faults.test_disks import run

pytestmark = pytest.mark.services


def remove(folder: Path) -> None:
    """Remove the folder with all that is made in it meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def disturbed(trial: Trial) -> Iterator[Call]:
    """A run at a random moment; after the block its worker must serve another one."""
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        yield call
        trial.serves(worker)


def day_folders(trial: Trial) -> list[Path]:
    return [path for path in trial.site.work_dir.iterdir() if path.is_dir()]


@fault("work dir removed", 0, 74, 75, 78)
def work_dir_removed(trial: Trial) -> None:
    trial.healing.callback(trial.await_views)
    trial.healing.callback(trial.site.work_dir.mkdir, exist_ok=True)
    with disturbed(trial) as call:
        remove(trial.site.work_dir)
        call.end()
        trial.site.work_dir.mkdir(exist_ok=True)
        trial.await_views()


@fault("day folder of the work dir removed", 0, 74, 75)
def day_folder_removed(trial: Trial) -> None:
    with disturbed(trial) as call:
        for folder in day_folders(trial):
            remove(folder)
        call.end()


@fault("directory of OUT removed", 0, 2, 66, 73, 74)  # 2: before the step has looked
def output_removed(trial: Trial) -> None:
    with disturbed(trial) as call:
        folder, gone = call.out.parent, trial.folder / "gone"
        folder.rename(gone)
        complete = {path.name for path in gone.iterdir()} == {call.out.name, f"{call.out.name}.tbi"}
        call.end()
        if complete:  # the run was over before the fault
            assert call.code == 0
            gone.rename(folder)
        trial.healing.callback(folder.mkdir, exist_ok=True)


def read_only(trial: Trial, folder: Path) -> None:
    """Whoever opens or makes a file there from now on gets EROFS; files that are open stay writable."""
    with contextlib.ExitStack() as undo:
        run("mount", "--bind", folder, folder)
        undo.callback(subprocess.run, ["umount", "--lazy", folder], stderr=subprocess.DEVNULL, check=False)
        run("mount", "-o", "remount,bind,ro", folder)
        trial.healing.push(undo.pop_all())


@fault("work dir read-only from some moment on", 0, 74, 77)
def work_dir_read_only(trial: Trial) -> None:
    with disturbed(trial) as call:
        read_only(trial, trial.site.work_dir)
        ended(trial, call)
        trial.healing.close()


@fault("day folder read-only from some moment on", 0, 74, 77)
def day_folder_read_only(trial: Trial) -> None:
    with disturbed(trial) as call:
        for folder in day_folders(trial):
            read_only(trial, folder)
        ended(trial, call)
        trial.healing.close()


def ended(trial: Trial, call: Call) -> None:
    call.end()
    assert trial.site.work_dir.is_dir()


@pytest.mark.parametrize("fault", [work_dir_removed, day_folder_removed, output_removed], ids=str)
def test_a_folder_that_is_removed_is_a_clear_failure(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED WITH READ-ONLY FOLDERS: a mount needs root")
@pytest.mark.parametrize("fault", [work_dir_read_only, day_folder_read_only], ids=str)
def test_a_folder_that_becomes_read_only_is_a_clear_failure(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
