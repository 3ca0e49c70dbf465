"""VcfReader: the header and the record lines of a VCF that is text, BGZF or plain gzip, in one pass.

Lines are bytes and stay as they are, but for CRLF, which becomes LF; fields are not parsed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Literal

from anyvar_step.errors import InvalidInput
from anyvar_step.vcf import gzipped
from anyvar_step.vcf.blocks import peek_block_size, read_blocks
from anyvar_step.vcf.header import check_columns, check_start
from anyvar_step.vcf.lines import lines_of
from anyvar_step.vcf.source import Source

if TYPE_CHECKING:
    from hashlib import _Hash

Kind = Literal["text", "bgzf", "gzip"]

#: Bytes of text in a block, about, which is a block of BGZF; also what is read at once for the header.
BLOCK = 65536
#: Bytes of a line, and of a header, that are read at most: a small compressed file can hold an endless one.
#: A record of half a million samples has some 50 MB.
LONGEST = 1 << 28


class VcfReader:
    """A VCF read from ``raw``, a file or a pipe; ``name`` is what messages call it.

    Construction reads the header. ``header`` holds its lines without line ends, the #CHROM line last;
    ``kind`` is text, bgzf or gzip; ``first_line`` is the 1-based number of the first line of the block that
    ``blocks`` gave last; ``notes`` is complete once ``blocks`` has ended.

    Raises InvalidInput, from construction and from ``blocks``, with the line or byte offset at fault.
    """

    def __init__(self, raw: BinaryIO, name: str, digest: _Hash | None = None) -> None:
        self.name = name
        self.header: list[bytes] = []
        self.first_line = 0
        self.notes: list[str] = []
        self._source = Source(raw, name, digest)
        self._size = BLOCK
        self._next_line = 1
        if not self._source.peek(1):
            raise InvalidInput(f"{name} is empty", "Check the command that wrote it")
        self.kind: Kind = _kind(self._source)
        if self.kind == "gzip":
            self.notes.append(f"{name} {gzipped.NOTE}")
        self._texts = self._whole_lines()
        self._after_header = self._read_header()

    @property
    def consumed(self) -> int:
        """Bytes of the input, as it is stored, that have been used so far."""
        return self._source.position

    def blocks(self, size: int = BLOCK) -> Iterator[list[bytes]]:
        """The record lines without line ends, in lists of about ``size`` bytes; no list is empty.

        A line is never split. Empty lines are allowed at the end of the file only.
        """
        self._size = size
        blank = 0
        text = self._after_header
        while text is not None:
            lines = lines_of(text)
            total = len(lines)
            while lines and not lines[-1]:
                lines.pop()
            if lines:
                self._check_records(text, lines, blank)
                self.first_line = self._next_line
                yield lines
            if total > len(lines):
                blank = blank or self._next_line + len(lines)
            self._next_line += total
            text = next(self._texts, None)

    def _check_records(self, text: bytes, lines: list[bytes], blank: int) -> None:
        """No empty line before a record, and no header line after the header."""
        if blank or b"" in lines:
            line = blank or self._next_line + lines.index(b"")
            raise self._fault(line, "an empty line among the records", "Remove it")
        # To look for one byte first is twenty times cheaper than for two, and few records have a "#".
        if b"#" in text and (text.startswith(b"#") or b"\n#" in text):
            line = next(n for n, record in enumerate(lines, self._next_line) if record.startswith(b"#"))
            raise self._fault(
                line, "a header line among the records", "Join VCFs with `bcftools concat`, not with cat"
            )

    def _read_header(self) -> bytes | None:
        """Fill ``header`` through the #CHROM line; the text read beyond it, None at the end of the file."""
        size = 0
        for text in self._texts:
            start = 0
            size += len(text)
            if size > LONGEST:
                raise self._fault(self._next_line, f"a header of more than {LONGEST:,} bytes", "Is it a VCF?")
            while (end := text.find(b"\n", start)) >= 0:
                line = text[start:end]
                start = end + 1
                number, self._next_line = self._next_line, self._next_line + 1
                if not line:
                    self._note(f"{self.name} has empty lines in its header; they are left out")
                    continue
                self.header.append(line)
                if line.startswith(b"#CHROM"):
                    check_columns(line, self.name, number)
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
        parts: list[bytes | bytearray | memoryview] = []
        length = 0
        for chunk in self._decompressed():
            length += len(chunk)
            if 2 * length >= self._size and (cut := chunk.rfind(b"\n") + 1):
                parts.append(memoryview(chunk)[:cut])
                yield self._clean(b"".join(parts))
                parts, length = [chunk[cut:]], len(chunk) - cut
            else:
                parts.append(chunk)
                if length > LONGEST:
                    raise self._fault(
                        self._next_line, f"a line of more than {LONGEST:,} bytes", "Is it a VCF?"
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
        return gzipped.read_gzip(self._source, self._size)

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
