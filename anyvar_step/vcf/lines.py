"""A block of text as lines."""

from __future__ import annotations

#: Bytes of a line from which on it is found sooner than split off: ``find`` looks at many bytes at once.
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
