"""Serialisations and digests of VRS 2.0.1 computed identifiers (CONTRACTS.md §4).

An identifier is a prefix and sha512t24u of a canonical JSON text: 24 bytes of SHA-512 in base64url.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from hashlib import sha512
from struct import unpack

#: Length of a digest in base64url; 24 bytes make exactly 32 characters, so digests can be encoded in bulk.
WIDTH = 32
ALLELE_PREFIX = b"ga4gh:VA."
LOCATION_PREFIX = b"ga4gh:SL."
#: From one allele's identifier to the next where many stand side by side: prefix, digest, comma.
STRIDE = len(ALLELE_PREFIX) + WIDTH + 1

#: An allele's serialisation is ALLELE_HEAD, its location's digest and its state's tail.
ALLELE_HEAD = b'{"location":"'
LOCATION_HEAD = b'{"end":'
LOCATION_TAIL = b',"type":"SequenceLocation"}'
_LITERAL_HEAD = b'","state":{"sequence":"'
_LITERAL_TAIL = b'","type":"LiteralSequenceExpression"},"type":"Allele"}'
_LENGTH_HEAD = b'","state":{"length":'
_LENGTH_MIDDLE = b',"repeatSubunitLength":'
_LENGTH_TAIL = b',"type":"ReferenceLengthExpression"},"type":"Allele"}'

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def sha512t24u(data: bytes) -> bytes:
    """The digest of one text: 32 characters."""
    return encoded([sha512(data).digest()])


def truncated(digests: Sequence[bytes]) -> tuple[bytes, ...]:
    """The first 24 bytes of each of these SHA-512 digests."""
    return unpack("24s40x" * len(digests), b"".join(digests))  # a third of what so many slices cost


def encoded(digests: Sequence[bytes]) -> bytes:
    """sha512t24u of these SHA-512 digests, one behind the other, 32 characters each."""
    return b2a_base64(b"".join(truncated(digests)), newline=False).translate(_URL_SAFE)


def prefixed(prefix: bytes, digests: bytes) -> bytes:
    """sha512t24u digests that stand one behind the other, with a prefix before each."""
    apart = unpack("32s" * (len(digests) // WIDTH), digests)
    return prefix + prefix.join(apart) if apart else b""


def location_middle(accession: str) -> bytes:
    """What stands between a location's end and start; the same for all locations of a sequence."""
    return (
        b',"sequenceReference":{"refgetAccession":"%b","type":"SequenceReference"},"start":'
        % accession.encode("ascii")
    )


def location(middle: bytes, start: bytes, end: bytes) -> bytes:
    """The serialisation of [start, end), decimal, on the sequence that ``middle`` was made for."""
    return b"".join((LOCATION_HEAD, end, middle, start, LOCATION_TAIL))


def tail(sequence: bytes, length: bytes, repeat_subunit_length: bytes) -> bytes:
    """What follows the location's digest in an allele, by its state; a length ``.`` is a literal's."""
    if length == b".":
        return literal_tail(sequence)
    return reference_length_tail(length, repeat_subunit_length)


def literal_tail(sequence: bytes) -> bytes:
    """``tail`` for a literal state."""
    return b"".join((_LITERAL_HEAD, sequence, _LITERAL_TAIL))


def reference_length_tail(length: bytes, repeat_subunit_length: bytes) -> bytes:
    """``tail`` for a ReferenceLengthExpression (decimal numbers); its sequence is not digested."""
    return b"".join((_LENGTH_HEAD, length, _LENGTH_MIDDLE, repeat_subunit_length, _LENGTH_TAIL))
