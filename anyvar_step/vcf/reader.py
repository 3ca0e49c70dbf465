"""VCFs read as blocks of whole lines, from text, BGZF or plain gzip; and quick checks of an input file.

Lines are bytes and stay as they are, except that CRLF becomes LF; fields are not parsed here.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import deflate
from isal import igzip_lib

from anyvar_step.errors import InputNotFound, InvalidInput, from_os
from anyvar_step.vcf.bgzf import MAGIC, ByteReader, damage_at_end, peek_block_size, read_blocks
from anyvar_step.vcf.header import check_columns, check_start

try:  # ten times as fast as ``bytes.count``, which goes byte by byte
    from anyvar_step._native import count_lines as native_count
except ImportError:
    native_count = None  # type: ignore[assignment]

#: Bytes of a line from which on ``find`` is quicker than ``split``, which goes byte by byte.
_LONG_LINE = 2000


def split_lines(text: bytes) -> list[bytes]:
    """The lines of a text that ends with a newline, without line ends."""
    end = text.find(b"\n")
    if end < _LONG_LINE:
        return text.split(b"\n")[:-1]
    lines, start = [], 0
    while end >= 0:
        lines.append(text[start:end])
        start = end + 1
        end = text.find(b"\n", start)
    return lines


def _count_lines(text: bytes) -> int:
    if native_count is not None:
        return native_count(text)
    return len(split_lines(text)) if text.find(b"\n") >= _LONG_LINE else text.count(b"\n")


#: Compressed bytes given to the decompressor at once.
_COMPRESSED = 1 << 15


def _read_gzip(source: ByteReader) -> Iterator[bytes]:
    """The decompressed bytes of all gzip members, at most BLOCK at a time.

    Raises InvalidInput with the byte offset of the member that is truncated or fails its CRC32 or length.
    """
    while source.peek(2) == MAGIC[:2]:
        yield from _read_member(source)
    offset = source.position
    while data := source.take(_COMPRESSED):  # zeros may pad the end of a file
        if data.strip(b"\0"):
            raise _gzip_error(source, f"has bytes after its end, at byte {offset}, that are not gzip")


def _read_member(source: ByteReader) -> Iterator[bytes]:
    """One gzip member; what follows it stays in the source."""
    offset = source.position
    inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    while not inflate.eof:
        data = source.take(_COMPRESSED) if inflate.needs_input else b""
        if not data and inflate.needs_input:
            end = f"the gzip member at byte {offset} does not end by byte {source.position}"
            raise _gzip_error(source, f"is truncated: {end}")
        try:
            text = inflate.decompress(data, BLOCK)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub names an instance
            place = f"in the gzip member at byte {offset}, before byte {source.position}"
            raise _gzip_error(source, f"is corrupt {place}: {error}") from None
        if text:
            # isal's CRC32 leaves the vector registers in a state in which all other code runs 20 % slower
            # (measured); libdeflate's resets them. Its value is not needed: isal has checked the text.
            deflate.crc32(text)
            yield text
    source.give_back(inflate.unused_data)


def _gzip_error(source: ByteReader, fault: str) -> InvalidInput:
    return InvalidInput(f"{source.name} {fault}", "Copy it again, or check it with `gzip -t`")


#: Bytes of text in a block, about; also what is read at once for the header.
BLOCK = 65536
#: Bytes of a line that are read at most: a small compressed file can hold an endless one. A record of half a
#: million samples has some 50 MB.
MAX_LINE = 1 << 28
#: Bytes and lines of a header that are read at most, for the same reason. A header of a million contigs has
#: some 50 MB; 28 million lines ``##`` take 82 kB compressed, and 1.6 GB as lines in memory.
HEADER_BYTES, HEADER_LINES = 1 << 26, 1 << 20


class VcfReader:
    """A VCF read from ``raw``, a file or a pipe; ``name`` stands for it in messages.

    Construction reads the header. ``header`` has its lines without line ends, the #CHROM line last; ``kind``
    is text, bgzf or gzip. ``text_blocks`` or ``blocks`` give the records, once, in blocks of about BLOCK
    bytes. ``first_line`` is the 1-based line number at which the last block begins,
    ``records`` the number of records so far; ``notes`` is complete once they have ended. ``on_read`` is
    called with the stored bytes as they are read.

    Construction and both iterators raise InvalidInput with the line or byte offset at fault.
    """

    def __init__(self, raw: BinaryIO, name: str, on_read: Callable[[bytes], object] | None = None) -> None:
        self.name = name
        self.header: list[bytes] = []
        self.first_line = 0
        self.records = 0
        self.notes: list[str] = []
        self._source = ByteReader(raw, name, on_read)
        self._max_line = HEADER_BYTES
        self._next_line = 1
        self.kind: Literal["text", "bgzf", "gzip"] = "text"
        if not self._source.peek(1):
            raise InvalidInput(f"{name} is empty", "Check the command that wrote it")
        if peek_block_size(self._source) is not None:
            self.kind = "bgzf"
        elif self._source.peek(2) == MAGIC[:2]:
            self.kind = "gzip"
            self._note(
                "is plain gzip: it can be read from its beginning only; `bgzip` compresses it so that it can "
                "be indexed"
            )
        self._texts = self._whole_lines()
        self._after_header = self._read_header()

    @property
    def consumed(self) -> int:
        """Bytes of the input, as it is stored, that have been used so far."""
        return self._source.position

    def text_blocks(self) -> Iterator[bytes]:
        """The records, with line ends, in blocks of whole lines.

        Empty lines at the end of the file are left out. Others are in the blocks, and the file is refused if
        records follow the block that they end.
        """
        blank = 0
        text = self._after_header
        while text is not None:
            self.first_line = self._next_line
            kept = text
            if text.endswith(b"\n\n") or text == b"\n":
                kept = text.rstrip(b"\n")
                kept += b"\n" if kept else b""
            lines = _count_lines(kept)
            self._next_line += lines + len(text) - len(kept)
            if kept:
                if blank:
                    raise self._empty_line(blank)
                self._check_no_header(kept)
                self.records += lines
                yield kept
            if len(kept) < len(text):
                blank = blank or self.first_line + lines
            text = next(self._texts, None)

    def blocks(self) -> Iterator[list[bytes]]:
        """The records, without line ends, in lists that are not empty.

        Empty lines are allowed at the end of the file only.
        """
        for text in self.text_blocks():
            lines = split_lines(text)
            if b"" in lines:
                raise self._empty_line(self.first_line + lines.index(b""))
            yield lines

    def _empty_line(self, number: int) -> InvalidInput:
        return self._error(number, "an empty line among the records", "Remove it")

    def _check_no_header(self, text: bytes) -> None:
        """Raise InvalidInput if a header line is among the records."""
        # To look for one byte first is a hundred times quicker than for two, and few records have a "#".
        if b"#" in text and (text.startswith(b"#") or b"\n#" in text):
            before = 0 if text.startswith(b"#") else text.count(b"\n", 0, text.index(b"\n#") + 1)
            raise self._error(
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
                raise self._too_large(self._next_line, f"a header of more than {HEADER_BYTES:,} bytes")
            while (end := text.find(b"\n", start)) >= 0:
                line = text[start:end]
                start = end + 1
                number, self._next_line = self._next_line, self._next_line + 1
                if not line:
                    self._note("has empty lines in its header; they are left out")
                    continue
                if len(self.header) == HEADER_LINES:
                    raise self._too_large(number, f"a header of more than {HEADER_LINES:,} lines")
                self.header.append(line)
                if line.startswith(b"#CHROM"):
                    check_columns(line, self.name, number)
                    self._max_line = MAX_LINE
                    return text[start:] or next(self._texts, None)
                if not line.startswith(b"##"):
                    raise self._error(
                        number,
                        "neither a ## header line nor the #CHROM line",
                        "The header must end with the #CHROM line",
                    )
        raise InvalidInput(
            f"{self.name} ends within its header, at line {self._next_line - 1}: there is no #CHROM line",
            "Copy it again if it was cut, or restore the line",
        )

    def _whole_lines(self) -> Iterator[bytes]:
        """Text that ends with a newline; pieces shorter than half of the block size are joined."""
        parts: list[bytes | bytearray | memoryview] = []
        length = 0
        try:
            for chunk in self._decompressed():
                length += len(chunk)
                enough = 2 * length >= BLOCK or self._max_line == HEADER_BYTES
                if enough and (cut := chunk.rfind(b"\n") + 1):
                    parts.append(memoryview(chunk)[:cut])
                    yield self._clean(b"".join(parts))
                    parts, length = [chunk[cut:]], len(chunk) - cut
                else:
                    parts.append(chunk)
                    if length > self._max_line:
                        raise self._too_large(
                            self._next_line, f"a line of more than {self._max_line:,} bytes"
                        )
            if rest := b"".join(parts):
                if not rest.endswith(b"\n"):
                    self._note("does not end with a newline: make sure that it is whole")
                    rest += b"\n"
                yield self._clean(rest)
        except MemoryError:
            raise self._too_large(self._next_line, "a line for which there is not enough memory") from None

    def _decompressed(self) -> Iterator[bytes | bytearray]:
        """The file's text in pieces of any length; the first is checked to begin a VCF."""
        pieces: Iterator[bytes | bytearray]
        if self.kind == "bgzf":
            pieces = read_blocks(self._source)
        elif self.kind == "gzip":
            pieces = _read_gzip(self._source)
        else:
            pieces = iter(lambda: self._source.take(BLOCK), b"")
        first = next(pieces, b"")
        if not first:
            raise InvalidInput(
                f"{self.name} is a compressed file that holds nothing", "Check the command that wrote it"
            )
        check_start(first, self.name)
        yield first
        yield from pieces

    def _clean(self, text: bytes) -> bytes:
        """The text with LF line ends; InvalidInput if it holds NUL, at which htslib would cut the line."""
        if (at := text.find(b"\0")) >= 0:
            raise self._error(
                self._next_line + text.count(b"\n", 0, at),
                "a NUL byte",
                "The file is damaged, or no VCF: copy it again",
            )
        if b"\r" in text and b"\r\n" in text:
            self._note("has CRLF line ends; they become LF")
            return text.replace(b"\r\n", b"\n")
        return text

    def _note(self, note: str) -> None:
        if (note := f"{self.name} {note}") not in self.notes:
            self.notes.append(note)

    def _too_large(self, line: int, reason: str) -> InvalidInput:
        error = self._error(line, reason, "Is it a VCF?")
        error.too_large = True
        return error

    def _error(self, line: int, reason: str, remedy: str) -> InvalidInput:
        return InvalidInput(f"{self.name} line {line}: {reason}", remedy)


_OTHER_FILES = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_input(path: Path, name: str = "") -> tuple[str, ...]:
    """Notes on the VCF at ``path``, of which only the header and the last bytes are read.

    Raises InputNotFound if there is no such file or it cannot be opened; InvalidInput if it is not a regular
    file, is empty, of another format, without a proper header, or BGZF without its end-of-file block.
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
        for test, what in _OTHER_FILES:
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


def count_records(raw: BinaryIO, name: str) -> int:
    """The number of records of the VCF in ``raw``, which is read to its end; raises as VcfReader does."""
    return sum(map(len, VcfReader(raw, name).blocks()))
