"""Checks on files: an input before it is staged, in no time; an output before it is handed on, in whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import InputNotFound, InvalidInput, from_os
from anyvar_step.vcf.bgzf import EOF_BLOCK
from anyvar_step.vcf.stream import VcfReader

#: Bytes at the end of a BGZF file in which its end-of-file block is looked for: as many as a block can have.
_TAIL = 1 << 16
_BLOCK_MAGIC = EOF_BLOCK[:4]

_NOT_FILES = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_input(path: Path, name: str = "") -> tuple[str, ...]:
    """Notes on the input at ``path``, found by reading its header and its last bytes only.

    Raises InputNotFound where there is no such file or it cannot be opened; InvalidInput where it is no
    regular file, empty, another format, without a proper header, or BGZF that does not end with its
    end-of-file block.
    """
    name = name or str(path)
    with open_input(path, name) as raw:
        reader = VcfReader(raw, name)
        if reader.kind == "bgzf" and (damage := damage_at_end(raw)):
            raise InvalidInput(f"{name} {damage}", "Copy it again, or check it with `bgzip -t`")
    return tuple(reader.notes)


def open_input(path: Path, name: str) -> BinaryIO:
    """The regular file at ``path``, open for reading; never waits on a named pipe.

    Raises InputNotFound or InvalidInput as check_input does.
    """
    try:
        mode = path.stat().st_mode
        for test, what in _NOT_FILES:
            if test(mode):
                raise InvalidInput(
                    f"{name} is {what}, not a file", "Name a VCF file, or use - for standard input"
                )
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise InputNotFound(f"{name} does not exist", "Check the path") from None
    except PermissionError:
        raise InputNotFound(f"{name} cannot be read", "Check the owner and mode of the path") from None
    except OSError as error:
        raise from_os(error, f"cannot open {name}") from error


def count_records(path: Path, name: str = "") -> int:
    """The record lines of the VCF at ``path``, read and checked in whole; raises as check_input does."""
    name = name or str(path)
    with open_input(path, name) as raw:
        return sum(len(lines) for lines in VcfReader(raw, name).blocks())


def damage_at_end(raw: BinaryIO) -> str:
    """What is wrong with the last bytes of a BGZF file, and where; empty where it ends with its EOF block."""
    size = raw.seek(0, os.SEEK_END)
    start = raw.seek(max(0, size - _TAIL))
    before, found, after = raw.read().rpartition(EOF_BLOCK)
    if found and not after:
        return ""
    if found and not after.startswith(_BLOCK_MAGIC):
        offset = start + len(before) + len(EOF_BLOCK)
        return f"is corrupt at byte {offset}: bytes behind its end-of-file block that are not a BGZF block"
    return f"is truncated: it ends at byte {size} without the BGZF end-of-file block"
