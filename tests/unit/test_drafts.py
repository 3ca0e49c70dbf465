"""Outputs on their way: gone unless published, and what killed steps left goes with the next call."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyvar_step.errors import FileTrouble
from anyvar_step.step.drafts import temporary


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_draft_is_beside_its_file_and_gone_at_the_end(tmp_path: Path) -> None:
    with temporary(tmp_path / "out.vcf") as draft:
        draft.write_text("x")
        Path(f"{draft}.tbi").write_text("x")
        assert draft.parent == tmp_path
        assert all(name.startswith(".out.vcf.") for name in names(tmp_path))
    assert names(tmp_path) == []


def test_a_killed_steps_drafts_go_and_nobody_elses(tmp_path: Path) -> None:
    dead = [".out.vcf.0123456789ab", ".out.vcf.0123456789ab.tbi", ".out.vcf.ba9876543210.bcf"]
    others = [".out.vcf.gz.0123456789ab", ".out.vcf.notes", ".vcf.0123456789ab", "out.vcf.0123456789ab"]
    for name in (*dead, *others):
        (tmp_path / name).write_text("x")
    with temporary(tmp_path / "out.vcf"):
        pass
    assert names(tmp_path) == sorted(others)


def test_a_living_steps_draft_is_let_be(tmp_path: Path) -> None:
    with temporary(tmp_path / "out.vcf") as first:
        first.write_text("first")
        Path(f"{first}.tbi").write_text("index")
        with temporary(tmp_path / "out.vcf") as second:
            assert second != first
        assert first.read_text() == "first"
        assert Path(f"{first}.tbi").exists()


def test_a_draft_that_cannot_be_written_names_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(FileTrouble, match=r"cannot write the output .*out\.vcf"),
        temporary(tmp_path / "nowhere" / "out.vcf"),
    ):
        pass
