"""The alleles of one block of records: collected first, digested together, then read back by number.

Two phases let base64 run once over all digests, and let alleles share their location's digest.
"""

from __future__ import annotations

from hashlib import sha512

from anyvar_step.vrs import digest
from anyvar_step.vrs.fields import Texts
from anyvar_step.vrs.kept import KeptAlleles, Place, State
from anyvar_step.vrs.normalize import Normalized


class Block:
    """Alleles by number, in the order in which they were added.

    ``locations`` are serialisations; allele i lies at location ``where[i]``, its own serialisation ends in
    ``tails[i]``. Where the annotator was asked to keep alleles, ``places`` has
    what the locations are, by number, and ``states`` what the alleles are. The annotator's fast path
    appends to all of these itself.
    """

    def __init__(self) -> None:
        self.locations: list[bytes] = []
        self.where: list[int] = []
        self.tails: list[bytes] = []
        self.places: list[Place] = []
        self.states: list[State] = []
        self._digests: list[bytes] = []
        self._location_digests = b""

    def add(self, middle: bytes, texts: Texts) -> int:
        """Add an allele on the sequence that ``middle`` (digest.location_middle) names; its number."""
        start, end, state, length, subunit = texts
        location, locations = digest.location(middle, start, end), self.locations
        if not locations or locations[-1] != location:  # REF and ALT often lie at the same one
            locations.append(location)
        self.where.append(len(locations) - 1)
        literal = length == b"."
        self.tails.append(
            digest.literal_tail(state) if literal else digest.reference_length_tail(length, subunit)
        )
        return len(self.tails) - 1

    def keep(self, accession: str, allele: Normalized) -> None:
        """Note what the allele that was added last is."""
        if self.where[-1] == len(self.places):
            self.places.append((accession, allele.start, allele.end))
        sequence = None if allele.sequence is None else allele.sequence.decode("ascii")
        self.states.append((sequence, allele.length, allele.repeat_subunit_length))

    def span(self, count: int) -> slice:
        """Where in ``ids`` the identifiers of the last ``count`` alleles stand side by side."""
        end = len(self.tails) * digest.STRIDE
        return slice(end - count * digest.STRIDE, end - 1)

    def ids(self) -> bytes:
        """The identifiers of all alleles, comma-separated: allele i's begins at ``i * STRIDE``."""
        width, head, prefix = digest.WIDTH, digest.ALLELE_HEAD, digest.ALLELE_PREFIX
        places = self._location_digests = digest.bulk(self.locations)
        heads = [head + places[i : i + width] for i in range(0, len(places), width)]
        texts = zip(self.where, self.tails, strict=True)
        self._digests = [sha512(heads[where] + tail).digest()[:24] for where, tail in texts]
        digests = digest.encode(self._digests)
        return prefix + (b"," + prefix).join([digests[i : i + width] for i in range(0, len(digests), width)])

    def kept_alleles(self, ids: bytes) -> KeptAlleles:
        """All alleles, after ``ids()``, whose value is given here."""
        return KeptAlleles(self._digests, ids, self._location_digests, self.where, self.places, self.states)
