"""VCFs read as blocks of whole lines, from text, BGZF or plain gzip; and quick checks of an input file.

Lines are bytes and stay as they are, but for CRLF, which becomes LF; fields are not parsed here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import deflate
from isal import igzip_lib

from anyvar_step.errors import InputNotFound, InvalidInput, from_os
from anyvar_step.vcf.bgzf import EOF_BLOCK, Digest, Source, peek_block_size, read_blocks
from anyvar_step.vcf.header import check_columns, check_start

#: Bytes of a line from which on ``find`` is quicker than ``split``, which goes byte by byte.
LONG = 2000


def lines_of(text: bytes) -> list[bytes]:
    """The lines of a text that ends with a newline, without line ends."""
    end = text.find(b"\n")
    if end < LONG:
        return text.split(b"\n")[:-1]
    lines, start = [], 0
    while end >= 0:
        lines.append(text[start:end])
        start = end + 1
        end = text.find(b"\n", start)
    return lines


def count_lines(text: bytes) -> int:
    """The number of lines of a text that ends with a newline."""
    return len(lines_of(text)) if text.find(b"\n") >= LONG else text.count(b"\n")


#: Compressed bytes handed to the decompressor at once.
PIECE = 1 << 15
NOTE = (
    "is plain gzip: it can be read from its beginning only; `bgzip` compresses it so that it can be indexed"
)


def read_gzip(source: Source, size: int) -> Iterator[bytes]:
    """The decompressed bytes, at most ``size`` at a time.

    Raises InvalidInput with the byte offset of the member that is truncated or fails its CRC32 or length.
    """
    while True:
        yield from _member(source, size)
        if not source.peek(1):
            return
        if source.peek(2) != b"\x1f\x8b":
            _skip_padding(source)
            return


def _member(source: Source, size: int) -> Iterator[bytes]:
    """One gzip member; what follows it stays in the source."""
    offset = source.position
    inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    while not inflate.eof:
        data = source.take(PIECE) if inflate.needs_input else b""
        if not data and inflate.needs_input:
            raise InvalidInput(
                f"{source.name} is truncated: the gzip member at byte {offset} does not end by byte "
                f"{source.position}",
                "Copy it again, or check it with `gzip -t`",
            )
        try:
            text = inflate.decompress(data, size)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub names an instance
            raise InvalidInput(
                f"{source.name} is corrupt in the gzip member at byte {offset}, before byte "
                f"{source.position}: {error}",
                "Copy it again, or check it with `gzip -t`",
            ) from None
        if text:
            # isal's CRC32 leaves the vector registers in a state in which all other code runs 20 % slower
            # (measured); libdeflate's puts them right. Its value is not needed: isal has checked the text.
            deflate.crc32(text)
            yield text
    source.give_back(inflate.unused_data)


def _skip_padding(source: Source) -> None:
    offset = source.position
    while data := source.take(PIECE):
        if data.strip(b"\0"):
            raise InvalidInput(
                f"{source.name} has bytes after its end, at byte {offset}, that are not gzip",
                "Copy it again, or check it with `gzip -t`",
            )


Kind = Literal["text", "bgzf", "gzip"]

#: Bytes of text in a block, about, which is a block of BGZF; also what is read at once for the header.
BLOCK = 65536
#: Bytes of a line that are read at most: a small compressed file can hold an endless one. A record of half a
#: million samples has some 50 MB.
LONGEST = 1 << 28
#: Bytes and lines of a header that are read at most, for the same reason. A header of a million contigs has
#: some 50 MB; 28 million lines ``##`` take 82 kB compressed, and 1.6 GB as lines in memory.
HEADER_BYTES = 1 << 26
HEADER_LINES = 1 << 20


class VcfReader:
    """A VCF read from ``raw``, a file or a pipe; ``name`` is what messages call it.

    Construction reads the header. ``header`` holds its lines without line ends, the #CHROM line last;
    ``kind`` is text, bgzf or gzip. ``texts`` and ``blocks`` give the records: ``first_line`` is the 1-based
    number of the first line of the last block, ``records`` the number of lines so far; ``notes`` is complete
    once they have ended.

    Raises InvalidInput, from construction and from both, with the line or byte offset at fault.
    """

    def __init__(self, raw: BinaryIO, name: str, digest: Digest | None = None) -> None:
        self.name = name
        self.header: list[bytes] = []
        self.first_line = 0
        self.records = 0
        self.notes: list[str] = []
        self._source = Source(raw, name, digest)
        self._size = BLOCK
        self._longest = HEADER_BYTES
        self._next_line = 1
        if not self._source.peek(1):
            raise InvalidInput(f"{name} is empty", "Check the command that wrote it")
        self.kind: Kind = _kind(self._source)
        if self.kind == "gzip":
            self.notes.append(f"{name} {NOTE}")
        self._texts = self._whole_lines()
        self._after_header = self._read_header()

    @property
    def consumed(self) -> int:
        """Bytes of the input, as it is stored, that have been used so far."""
        return self._source.position

    def texts(self, size: int = BLOCK) -> Iterator[bytes]:
        """The record lines, each with its end, in blocks of about ``size`` bytes of whole lines.

        Empty lines at the end of the file are left out; others are in the blocks, and the file is refused
        where records follow the block that they end.
        """
        self._size = size
        blank = 0
        text = self._after_header
        while text is not None:
            self.first_line = self._next_line
            kept = text
            if text.endswith(b"\n\n") or text == b"\n":
                kept = text.rstrip(b"\n")
                kept += b"\n" if kept else b""
            lines = count_lines(kept)
            self._next_line += lines + len(text) - len(kept)
            if kept:
                if blank:
                    raise self._fault(blank, "an empty line among the records", "Remove it")
                self._check_no_header(kept)
                self.records += lines
                yield kept
            if len(kept) < len(text):
                blank = blank or self.first_line + lines
            text = next(self._texts, None)

    def blocks(self, size: int = BLOCK) -> Iterator[list[bytes]]:
        """The record lines without line ends, in lists of about ``size`` bytes; no list is empty.

        Empty lines are allowed at the end of the file only.
        """
        for text in self.texts(size):
            lines = lines_of(text)
            if b"" in lines:
                number = self.first_line + lines.index(b"")
                raise self._fault(number, "an empty line among the records", "Remove it")
            yield lines

    def _check_no_header(self, text: bytes) -> None:
        """No header line after the header."""
        # To look for one byte first is a hundred times cheaper than for two, and few records have a "#".
        if b"#" in text and (text.startswith(b"#") or b"\n#" in text):
            before = 0 if text.startswith(b"#") else text.count(b"\n", 0, text.index(b"\n#") + 1)
            raise self._fault(
                self.first_line + before,
                "a header line among the records",
                "Join VCFs with `bcftools concat`, not with cat",
            )

    def _read_header(self) -> bytes | None:
        """Fill ``header`` through the #CHROM line; the text read beyond it, None at the end of the file."""
        size = 0
        for text in self._texts:
            start = 0
            size += len(text)
            if size > HEADER_BYTES:
                raise self._fault(
                    self._next_line, f"a header of more than {HEADER_BYTES:,} bytes", "Is it a VCF?"
                )
            while (end := text.find(b"\n", start)) >= 0:
                line = text[start:end]
                start = end + 1
                number, self._next_line = self._next_line, self._next_line + 1
                if not line:
                    self._note(f"{self.name} has empty lines in its header; they are left out")
                    continue
                if len(self.header) == HEADER_LINES:
                    raise self._fault(number, f"a header of more than {HEADER_LINES:,} lines", "Is it a VCF?")
                self.header.append(line)
                if line.startswith(b"#CHROM"):
                    check_columns(line, self.name, number)
                    self._longest = LONGEST
                    return text[start:] or next(self._texts, None)
                if not line.startswith(b"##"):
                    raise self._fault(
                        number,
                        "neither a ## header line nor the #CHROM line",
                        "The header must end with the #CHROM line",
                    )
        raise InvalidInput(
            f"{self.name} ends within its header, at line {self._next_line - 1}: there is no #CHROM line",
            "Copy it again if it was cut, or restore the line",
        )

    def _whole_lines(self) -> Iterator[bytes]:
        """Text that ends with a newline; pieces shorter than half of ``_size`` are put together."""
        try:
            yield from self._joined_pieces()
        except MemoryError:
            raise self._fault(
                self._next_line, "a line for which there is not enough memory", "Is it a VCF?"
            ) from None

    def _joined_pieces(self) -> Iterator[bytes]:
        parts: list[bytes | bytearray | memoryview] = []
        length = 0
        for chunk in self._decompressed():
            length += len(chunk)
            enough = 2 * length >= self._size or self._longest == HEADER_BYTES
            if enough and (cut := chunk.rfind(b"\n") + 1):
                parts.append(memoryview(chunk)[:cut])
                yield self._clean(b"".join(parts))
                parts, length = [chunk[cut:]], len(chunk) - cut
            else:
                parts.append(chunk)
                if length > self._longest:
                    raise self._fault(
                        self._next_line, f"a line of more than {self._longest:,} bytes", "Is it a VCF?"
                    )
        if rest := b"".join(parts):
            if not rest.endswith(b"\n"):
                self.notes.append(f"{self.name} does not end with a newline: make sure that it is whole")
                rest += b"\n"
            yield self._clean(rest)

    def _decompressed(self) -> Iterator[bytes | bytearray]:
        """The file's text in pieces of any length; the first is checked to begin a VCF."""
        ways: dict[Kind, Callable[[], Iterator[bytes | bytearray]]]
        ways = {"text": self._plain, "bgzf": self._bgzf, "gzip": self._gzip}
        pieces = ways[self.kind]()
        first = next(pieces, b"")
        if not first:
            raise InvalidInput(
                f"{self.name} is a compressed file that holds nothing", "Check the command that wrote it"
            )
        check_start(first, self.name)
        yield first
        yield from pieces

    def _plain(self) -> Iterator[bytes]:
        while text := self._source.take(self._size):
            yield text

    def _bgzf(self) -> Iterator[bytearray]:
        for payload in read_blocks(self._source):
            if len(payload) <= self._size:
                yield payload
                continue
            for start in range(0, len(payload), self._size):
                yield payload[start : start + self._size]

    def _gzip(self) -> Iterator[bytes]:
        return read_gzip(self._source, self._size)

    def _clean(self, text: bytes) -> bytes:
        """The text with LF line ends; InvalidInput where it holds NUL, at which htslib would cut the line."""
        if (at := text.find(b"\0")) >= 0:
            raise self._fault(
                self._next_line + text.count(b"\n", 0, at),
                "a NUL byte",
                "The file is damaged, or no VCF: copy it again",
            )
        if b"\r" in text and b"\r\n" in text:
            self._note(f"{self.name} has CRLF line ends; they become LF")
            return text.replace(b"\r\n", b"\n")
        return text

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _fault(self, line: int, reason: str, remedy: str) -> InvalidInput:
        return InvalidInput(f"{self.name} line {line}: {reason}", remedy)


def _kind(source: Source) -> Kind:
    if peek_block_size(source) is not None:
        return "bgzf"
    return "gzip" if source.peek(2) == b"\x1f\x8b" else "text"


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
