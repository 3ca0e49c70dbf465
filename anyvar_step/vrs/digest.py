"""Serialisations and digests of VRS 2.0.1 computed identifiers (CONTRACTS.md §4).

An identifier is a prefix and sha512t24u of a canonical JSON text: 24 bytes of SHA-512 in base64url.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable
from hashlib import sha512

#: Length of a digest in base64url; 24 bytes make exactly 32 characters, so digests can be encoded in bulk.
WIDTH = 32
ALLELE_PREFIX = b"ga4gh:VA."
LOCATION_PREFIX = b"ga4gh:SL."
#: From one allele's identifier to the next where many stand side by side: prefix, digest, comma.
STRIDE = len(ALLELE_PREFIX) + WIDTH + 1

#: An allele's serialisation is ALLELE_HEAD, its location's digest and its state's tail.
ALLELE_HEAD = b'{"location":"'
_LOCATION_HEAD = b'{"end":'
_LOCATION_TAIL = b',"type":"SequenceLocation"}'

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def sha512t24u(data: bytes) -> bytes:
    """The digest of one text: 32 characters."""
    return bulk([data])


def bulk(texts: Iterable[bytes]) -> bytes:
    """The digests of many texts, one behind the other, 32 characters each."""
    return encode([sha512(text).digest()[:24] for text in texts])


def encode(digests: list[bytes]) -> bytes:
    """base64url of 24-byte digests, one behind the other."""
    return b2a_base64(b"".join(digests), newline=False).translate(_URL_SAFE)


def location_middle(accession: str) -> bytes:
    """What stands between a location's end and start; the same for all locations of a sequence."""
    return (
        b',"sequenceReference":{"refgetAccession":"%b","type":"SequenceReference"},"start":'
        % accession.encode("ascii")
    )


def location(middle: bytes, start: bytes, end: bytes) -> bytes:
    """The serialisation of [start, end), decimal, on the sequence that ``middle`` was made for."""
    return b"".join((_LOCATION_HEAD, end, middle, start, _LOCATION_TAIL))


def literal_tail(sequence: bytes) -> bytes:
    """What follows the location's digest in an allele with a literal state."""
    return b'","state":{"sequence":"%b","type":"LiteralSequenceExpression"},"type":"Allele"}' % sequence


def reference_length_tail(length: bytes, repeat_subunit_length: bytes) -> bytes:
    """The same for a ReferenceLengthExpression (decimal numbers); its sequence is not digested."""
    return (
        b'","state":{"length":%b,"repeatSubunitLength":%b,"type":"ReferenceLengthExpression"},"type":"Allele"}'
        % (length, repeat_subunit_length)
    )
