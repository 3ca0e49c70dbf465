"""Outputs on their way: gone unless published, and what killed steps left goes with the next call."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from anyvar_step.client import deliver
from anyvar_step.client.cancellation import interruptible
from anyvar_step.client.deliver import Target, published
from anyvar_step.errors import FileTrouble, Interrupted
from anyvar_step.files import publish, temporary
from anyvar_step.vcf import VcfWriter


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
    dead += [".out.vcf.tbi.0123456789ab"]
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


def test_a_name_that_is_as_long_as_an_index_allows_is_written(tmp_path: Path) -> None:
    out = tmp_path / ("ö" * 122 + "a.vcf")  # 249 bytes
    dead = tmp_path / "dead"
    with temporary(out) as draft:
        draft.write_text("x")
        dead = draft.with_name(f"{draft.name[:-12]}0123456789ab")
        draft.rename(out)
    dead.write_text("x")
    with temporary(out) as draft:
        Path(f"{draft}.tbi").write_text("x")
    assert names(tmp_path) == [out.name]


def test_an_index_stays_where_its_output_cannot_be_replaced(tmp_path: Path) -> None:
    out, index = tmp_path / "out.vcf.gz", tmp_path / "out.vcf.gz.tbi"
    index.write_text("old")
    (out / "in the way").mkdir(parents=True)
    with pytest.raises(FileTrouble), published(Target(out, "z", index=False)) as part:
        part.write_bytes(b"new")
    assert index.read_text() == "old"
    assert names(tmp_path) == [out.name, index.name]


def test_a_signal_while_the_output_is_published_keeps_nothing_from_its_place(
    tmp_path: Path, vcf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.vcf.gz"

    def publish_and_be_told(part: Path, path: Path | None) -> None:
        publish(part, path)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(deliver, "publish", publish_and_be_told)
    with interruptible():
        with (
            interruptible(),
            published(Target(out, "z", index=True)) as part,
            VcfWriter(part, "z") as writer,
        ):
            writer.write(vcf.read_bytes().splitlines())
        signal.raise_signal(signal.SIGTERM)  # as a report is written
    assert names(tmp_path) == ["out.vcf.gz", "out.vcf.gz.tbi"]
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGTERM)


def test_a_draft_that_cannot_be_written_names_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(FileTrouble, match=r"cannot write the output .*out\.vcf"),
        temporary(tmp_path / "nowhere" / "out.vcf"),
    ):
        pass
