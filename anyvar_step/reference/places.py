"""Where the files prepared for a FASTA live: beside it, or in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: A test of one prepared file: is it whole and of this FASTA?
Fresh = Callable[[Path], bool]


def _user_cache() -> Path | None:
    """``$XDG_CACHE_HOME/anyvar-step``, or the same below ``~/.cache``; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path("~/.cache").expanduser()) / "anyvar-step"
    except RuntimeError:
        return None


def _stems(fasta: Path) -> list[Path]:
    """Paths to which a suffix is added: beside the name given, beside the file itself, in the user's cache.

    Pipelines hand references over as links in folders that live as long as one task, so what is prepared
    belongs to the file that the link points at.
    """
    real = fasta.resolve()
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    cache = _user_cache()
    return [fasta.absolute(), real, *([cache / f"{real.name}-{key}"] if cache else [])]


def find(fasta: Path, suffixes: Sequence[str], fresh: Fresh) -> list[Path] | None:
    """The first complete set of fresh files, in the order of ``suffixes``; None where there is none."""
    for stem in _stems(fasta):
        files = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        if all(file.is_file() and fresh(file) for file in files):
            return files
    return None


def publish(fasta: Path, suffixes: Sequence[str], build: Callable[[list[Path]], None]) -> list[Path]:
    """Let ``build`` write the files under temporary names, then rename them into place.

    Two processes that start at once both build, and neither sees half a file. Raises OSError where neither
    the FASTA's folder nor the user's cache can be written.
    """
    trouble: OSError | None = None
    for stem in _stems(fasta)[1:]:
        files = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".anyvar-step-", dir=stem.parent) as folder:
                drafts = [Path(folder) / file.name for file in files]
                build(drafts)
                for draft, file in zip(drafts, files, strict=True):
                    draft.replace(file)
        except OSError as error:
            trouble = trouble or error
        else:
            return files
    assert trouble is not None
    raise trouble


@contextmanager
def one_at_a_time(fasta: Path) -> Iterator[None]:
    """Let one process prepare while the others wait, where the file system can lock.

    The lock is taken on the FASTA itself, opened for reading, so that no lock file stays behind. Where it
    cannot be had (NFS), several processes do the same work and the last rename wins: slower, not wrong.
    """
    with fasta.open("rb") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
