"""The alleles of one block of records: collected first, digested together, then read back in their order.

Two phases let base64 run once over all digests, and let alleles share their location's digest.
"""

from __future__ import annotations

from hashlib import sha512
from struct import unpack

from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.kept import KeptAlleles, Place, State


class Block:
    """Alleles in the order in which they were added, by location.

    ``locations`` are serialisations; ``tails`` are, for each of them, the ends of the serialisations of the
    alleles that lie there. Where the annotator was asked to keep alleles, ``places`` has what the locations
    are, and ``states`` what the alleles are. The annotator's fast path adds to all of these itself.
    """

    def __init__(self) -> None:
        self.locations: list[bytes] = []
        self.tails: list[tuple[bytes, ...]] = []
        self.places: list[Place] = []
        self.states: list[State] = []
        self._digests: list[bytes] = []
        self._location_digests = b""

    def add(self, location: bytes, tail: bytes) -> None:
        """Add the allele at a location whose serialisation ends in ``tail``."""
        locations = self.locations
        if locations and locations[-1] == location:  # REF and ALT often lie at the same one
            self.tails[-1] += (tail,)
        else:
            locations.append(location)
            self.tails.append((tail,))

    def keep(self, place: Place, state: State) -> None:
        """Note what the allele that was added last is."""
        if len(self.places) < len(self.locations):
            self.places.append(place)
        self.states.append(state)

    def ids(self) -> bytes:
        """The identifiers of all alleles, each with a comma before it: allele i's is at ``i * STRIDE``."""
        places = digest.encoded([sha512(location).digest() for location in self.locations])
        heads = digest.prefixed(digest.ALLELE_HEAD, places)
        width = len(digest.ALLELE_HEAD) + digest.WIDTH
        self._location_digests = places
        apart = unpack(f"{width}s" * len(self.tails), heads)
        self._digests = [
            sha512(head + tail).digest()
            for head, tails in zip(apart, self.tails, strict=True)
            for tail in tails
        ]
        return digest.prefixed(b"," + digest.ALLELE_PREFIX, digest.encoded(self._digests))

    def kept_alleles(self, ids: bytes) -> KeptAlleles:
        """All alleles, after ``ids()``, whose value is given here."""
        where = [number for number, tails in enumerate(self.tails) for _ in tails]
        return KeptAlleles(
            digest.truncated(self._digests), ids, self._location_digests, where, self.places, self.states
        )
