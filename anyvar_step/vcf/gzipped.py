"""Plain gzip (RFC 1952), one or more members, decompressed in pieces of bounded size.

Zero bytes after the last member are padding, as for gzip(1); anything else there is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

import deflate
from isal import igzip_lib

from anyvar_step.errors import InvalidInput
from anyvar_step.vcf.source import Source

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
