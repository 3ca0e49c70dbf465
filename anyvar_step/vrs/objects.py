"""Annotated records as VRS objects and as rows of a table: lines in, lines out.

An object is an Allele of VRS 2.0.1 in the words and the order of ``vrs-annotate --ndjson-out``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from anyvar_step.text import escaped_bytes
from anyvar_step.vrs import digest
from anyvar_step.vrs.validate import Claim, claims_of, ids_of

#: The columns of the table.
COLUMNS = (b"chrom", b"pos", b"ref", b"alt", b"id")

_ALLELE = b'{"id":"%b","type":"Allele","digest":"%b","location":%b,"state":%b}'
_LOCATION = (
    b'{"id":"%b%b","type":"SequenceLocation","digest":"%b","sequenceReference":'
    b'{"type":"SequenceReference","refgetAccession":"%b"},"start":%b,"end":%b}'
)
_LITERAL = b'{"type":"LiteralSequenceExpression","sequence":"%b"}'
_REFERENCE_LENGTH = b'{"type":"ReferenceLengthExpression","length":%b,%b"repeatSubunitLength":%b}'


class UnknownSequence(LookupError):
    """A contig with identifiers whose refget accession is not known; its name."""


def objects(lines: Sequence[bytes], accessions: Mapping[str, str]) -> list[bytes]:
    """The alleles of records with VRS attributes, a JSON object each, REF before ALT, repeats included.

    ``accessions`` has the refget accession (``SQ.…``) of each contig. Raises UnknownSequence, and ValueError
    for a record whose fields do not belong together or to its identifiers.
    """
    made: list[bytes] = []
    places: dict[tuple[bytes, bytes, bytes], tuple[bytes, bytes]] = {}
    for line in lines:
        chrom = line[: line.index(b"\t")]
        for claim in claims_of(line):
            if claim.id == b".":
                continue
            key = (chrom, *claim.texts[:2])
            if key not in places:
                places[key] = _location(*key, accessions)
            made.append(_allele(claim, *places[key]))
    return made


def rows(lines: Sequence[bytes], *, for_ref: bool) -> list[bytes]:
    """The alleles of records, tab-separated as COLUMNS says; REF's own first with ``for_ref``, ALT being REF.

    An allele without identifier has ``.`` there. Control characters are escaped (``text.escaped``). Raises
    ValueError for a record whose identifiers are not as many as its alleles.
    """
    return [escaped_bytes(b"\t".join(row)) for line in lines for row in _rows(line, for_ref)]


def _rows(line: bytes, for_ref: bool) -> Iterator[tuple[bytes, ...]]:
    chrom, pos, _, ref, alts = line.split(b"\t", 5)[:5]
    listed = [] if alts == b"." else alts.split(b",")
    alleles = [ref, *listed] if for_ref else listed
    ids = ids_of(line) or [b"."] * len(alleles)
    if len(ids) != len(alleles):
        raise ValueError(f"it has {len(ids)} VRS identifiers for {len(alleles)} alleles")
    for alt, identifier in zip(alleles, ids, strict=True):
        yield chrom, pos, ref, alt, identifier


def _location(chrom: bytes, start: bytes, end: bytes, accessions: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The location's digest, and the location as an object."""
    name = chrom.decode("utf-8", "backslashreplace")
    if name not in accessions:
        raise UnknownSequence(name)
    accession = accessions[name].encode("ascii")
    key = digest.sha512t24u(digest.location(accession, start, end))
    return key, _LOCATION % (digest.LOCATION_PREFIX, key, key, accession, start, end)


def _allele(claim: Claim, place: bytes, location: bytes) -> bytes:
    """The object; ValueError where its identifier is another one's, as one kept from IN may be."""
    _, _, sequence, length, subunit = claim.texts
    shown = b"" if sequence == b"." else sequence
    literal = length == b"."
    key = digest.sha512t24u(digest.allele(place, shown, length, subunit))
    if claim.id != digest.ALLELE_PREFIX + key:
        shown_id = claim.id.decode("utf-8", "backslashreplace")
        raise ValueError(f"{shown_id} is not the identifier of its location and state")
    # An empty sequence stands as ``.`` in the record, as one left out does.
    written = b'"sequence":"%b",' % shown if shown or length == b"0" else b""
    state = _LITERAL % shown if literal else _REFERENCE_LENGTH % (length, written, subunit)
    return _ALLELE % (claim.id, key, location, state)
