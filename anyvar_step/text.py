"""Text on its way out of the program: to terminals, logs, tables and pages.

Names in VCFs, file names, messages of workers and answers of web APIs are written by others: ``escaped``
makes them harmless, once, where they leave the program. Messages are made without passwords and tokens
(``settings.masked``); ``printable`` replaces those that a library still put into one.
"""

from __future__ import annotations

import re

#: What a terminal or browser may obey, or show as nothing: C0 and C1 controls, line and paragraph separators,
#: zero-width and bidirectional marks, bytes that are not UTF-8 (surrogates).
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
#: Characters that a secret has at least, so that no ordinary word of a message is taken for one.
_SHORTEST_SECRET = 8

_secrets: set[str] = set()


def escaped(text: str) -> str:
    r"""The text in one line, each character that a terminal may obey as ``\n``, ``\x1b`` or ``\u202e``.

    A byte of a file name that is not UTF-8 (surrogateescape) is shown as ``\xe9``.
    """
    return _UNSAFE.sub(_escape, text)


def escaped_bytes(line: bytes) -> bytes:
    """The same for a line of a table in UTF-8, whose tabs stay."""
    if line.isascii() and line.replace(b"\t", b"").decode().isprintable():
        return line
    return b"\t".join(escaped(part.decode("utf-8", "surrogateescape")).encode() for part in line.split(b"\t"))


def printable(message: str) -> str:
    """The message in one line, escaped, with ``***`` in place of secrets."""
    for secret in sorted(_secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    return escaped(message)


def keep_secret(value: str) -> None:
    """Keep that value out of messages, unless it is so short or simple that it would garble them."""
    if len(value) >= _SHORTEST_SECRET and not (value.isalpha() and value.islower()):
        _secrets.add(value)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()
