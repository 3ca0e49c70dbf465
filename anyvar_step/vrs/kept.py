"""The alleles of one block for stores and object outputs, made one by one when they are asked for.

Most alleles of most VCFs are known to a store already: it looks at their digests and asks for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import overload

from anyvar_step.models import KeptAllele
from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.old_normalize import Normalized

#: A location: refget accession, start, end.
Place = tuple[str, int, int]
#: A state: sequence, length and repeat subunit length, with None as in KeptAllele.
State = tuple[str | None, int | None, int | None]


def state_of(allele: Normalized) -> State:
    """An allele's state."""
    sequence = None if allele.sequence is None else allele.sequence.decode("ascii")
    return sequence, allele.length, allele.repeat_subunit_length


_LOCATION_PREFIX = digest.LOCATION_PREFIX.decode("ascii")


class KeptAlleles(Sequence[KeptAllele]):
    """Alleles in the order of the records, REF before ALT, repeats included.

    ``digests`` are the 24 bytes that the alleles' identifiers stand for, in that order; ``ids`` and
    ``location_digests`` are all identifiers, each with a comma before it, and all locations' digests as text.
    """

    def __init__(
        self,
        digests: Sequence[bytes],
        ids: bytes,
        location_digests: bytes,
        where: list[int],
        places: list[Place],
        states: list[State],
    ) -> None:
        self.digests = digests
        self._ids = ids
        self._locations = location_digests
        self._where = where
        self._places = places
        self._states = states

    def without(self, places: Collection[int]) -> KeptAlleles:
        """The alleles but those at these places."""
        if not places:
            return self
        left = [place for place in range(len(self)) if place not in places]
        step = digest.STRIDE
        return KeptAlleles(
            [self.digests[place] for place in left],
            b"".join([self._ids[place * step : (place + 1) * step] for place in left]),
            self._locations,
            [self._where[place] for place in left],
            self._places,
            [self._states[place] for place in left],
        )

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, index: int) -> KeptAllele: ...
    @overload
    def __getitem__(self, index: slice) -> list[KeptAllele]: ...
    def __getitem__(self, index: int | slice) -> KeptAllele | list[KeptAllele]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        number = self._where[index]
        begin, width = index * digest.STRIDE, digest.WIDTH
        return KeptAllele(
            self._ids[begin + 1 : begin + digest.STRIDE].decode("ascii"),
            _LOCATION_PREFIX + self._locations[number * width : (number + 1) * width].decode("ascii"),
            *self._places[number],
            *self._states[index],
        )
