"""Serialisations and digests of VRS 2.0.1 computed identifiers (docs/contract.md#vrs-identifiers).

An identifier is a prefix and sha512t24u of a canonical JSON text: 24 bytes of SHA-512 in base64url.
"""

from __future__ import annotations

from binascii import b2a_base64
from hashlib import sha512

ALLELE_PREFIX = b"ga4gh:VA."
LOCATION_PREFIX = b"ga4gh:SL."

_LOCATION = (
    b'{"end":%b,"sequenceReference":{"refgetAccession":"%b","type":"SequenceReference"},"start":%b,'
    b'"type":"SequenceLocation"}'
)
_LITERAL = b'{"location":"%b","state":{"sequence":"%b","type":"LiteralSequenceExpression"},"type":"Allele"}'
_REFERENCE_LENGTH = (
    b'{"location":"%b","state":{"length":%b,"repeatSubunitLength":%b,"type":"ReferenceLengthExpression"},'
    b'"type":"Allele"}'
)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def sha512t24(text: bytes) -> bytes:
    """The first 24 bytes of the text's SHA-512."""
    return sha512(text).digest()[:24]


def encoded(digest: bytes) -> bytes:
    """24 bytes in base64url: 32 characters."""
    return b2a_base64(digest, newline=False).translate(_URL_SAFE)


def sha512t24u(text: bytes) -> bytes:
    """The digest of a text as identifiers have it: 32 characters."""
    return encoded(sha512t24(text))


def location(accession: bytes, start: bytes, end: bytes) -> bytes:
    """The serialisation of [start, end), decimal numbers, on the sequence of a refget accession."""
    return _LOCATION % (end, accession, start)


def allele(location_digest: bytes, sequence: bytes, length: bytes, repeat_subunit_length: bytes) -> bytes:
    """The serialisation of an allele at the location of that digest (32 characters).

    Its state is a literal ``sequence`` where ``length`` is ``.``, else a ReferenceLengthExpression of two
    decimal numbers, whose sequence is not digested.
    """
    if length == b".":
        return _LITERAL % (location_digest, sequence)
    return _REFERENCE_LENGTH % (location_digest, length, repeat_subunit_length)
