"""The view through which steps and workers see the work dir late, as they do on NFS."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
from support import skip, until

from faults.conftest import LAG
from faults.harness import Views

pytestmark = pytest.mark.services


@pytest.fixture
def folder(views: Views, tmp_path: Path) -> tuple[Path, Path]:
    """One folder in two views."""
    if views.step == views.worker:
        skip("NOT TESTED ON A SLOW SHARED FILESYSTEM", views.told)
    name = f"views-{tmp_path.name}"
    (views.step / name).mkdir()
    until((views.worker / name).is_dir)
    return views.step / name, views.worker / name


def test_what_a_view_makes_it_sees_at_once_and_the_other_one_later(folder: tuple[Path, Path]) -> None:
    mine, yours = folder
    begin = time.monotonic()
    (mine / "a").write_text("x")
    assert (mine / "a").read_text() == "x"
    if time.monotonic() - begin < LAG / 2:
        assert not (yours / "a").exists()
        assert list(yours.iterdir()) == []
    until((yours / "a").exists, 5)
    assert (yours / "a").read_text() == "x"


def test_what_is_removed_is_shown_for_a_while_and_is_stale(folder: tuple[Path, Path]) -> None:
    mine, yours = folder
    (mine / "a").write_text("x")
    until((yours / "a").exists, 5)
    begin = time.monotonic()
    (yours / "a").stat()
    (mine / "a").unlink()
    assert not (mine / "a").exists()
    if time.monotonic() - begin < LAG / 2:
        assert (yours / "a").exists()
        with pytest.raises(OSError, match="Stale") as problem:
            (yours / "a").read_text()
        assert problem.value.errno == errno.ESTALE
    until(lambda: not (yours / "a").exists(), 5)
