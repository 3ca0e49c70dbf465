"""What a record with a single-base REF and no longer ALT turns into, worked out once for each REF and ALT.

Most records of most VCFs are SNVs, and most of a gVCF's are blocks of one base and ``<NON_REF>``: of these
only position and digests differ, so the annotator fills them into a template.
"""

from __future__ import annotations

from typing import NamedTuple

from anyvar_step.vrs import fields
from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.allele import is_nucleotides, kind_of_change, kind_of_other
from anyvar_step.vrs.kept import State

#: Stand for the location's start and end.
_START, _END = b"\x01", b"\x02"
#: Plans that are kept; a VCF with more different ALTs has its further ones translated one by one.
_LIMIT = 4096


class Plan(NamedTuple):
    """How to write such a record.

    ``base``: REF, an upper-case byte. ``tails``: ends of its alleles' serialisations, all at one location;
    their identifiers come first in the field, ``width`` bytes of it. ``states``: what those alleles are.
    ``starts`` and ``ends``: what follows them, missing alleles and attribute fields, in two parts, the first
    cut where the location's start belongs, the second where its end does. ``kinds``: kind of each ALT.
    """

    base: int
    tails: tuple[bytes, ...]
    states: tuple[State, ...]
    width: int
    starts: list[bytes]
    ends: list[bytes]
    kinds: tuple[str, ...]


class Plans(dict[tuple[bytes, bytes], Plan | None]):
    """The plans of the records met, by (REF, ALT) as they stand in the line; None where there can be none."""

    def __init__(self, *, for_ref: bool, attributes: bool) -> None:
        super().__init__()
        self._for_ref = for_ref
        self._attributes = attributes

    def learn(self, ref: bytes, alts: bytes) -> None:
        """Make the plan for such records, if there is one."""
        if len(ref) != 1 or len(alts) > 64 or (len(alts) > 1 and alts.isalpha()) or len(self) >= _LIMIT:
            return
        key = ref, alts
        if key not in self and is_nucleotides(ref):
            self[key] = self._plan(ref.upper(), alts.upper().split(b","))

    def _plan(self, ref: bytes, alts: list[bytes]) -> Plan | None:
        tails: list[bytes] = []
        states: list[State] = []
        texts: list[fields.Texts] = []
        kinds: list[str] = []
        if self._for_ref:
            tails.append(digest.reference_length_tail(b"1", b"1"))
            states.append((ref.decode("ascii"), 1, 1))
            texts.append((_START, _END, ref, b"1", b"1"))
        for alt in alts:
            if not is_nucleotides(alt):
                kinds.append(kind_of_other(alt))
                if alts != [b"."]:
                    texts.append(fields.NO_TEXTS)
                continue
            if len(alt) > 1 or fields.NO_TEXTS in texts:
                return None  # an insertion, or identifiers that do not all come first
            kinds.append(kind_of_change(ref, alt))
            same = alt == ref
            tails.append(digest.reference_length_tail(b"1", b"1") if same else digest.literal_tail(alt))
            states.append((alt.decode("ascii"), 1, 1) if same else (alt.decode("ascii"), None, None))
            texts.append((_START, _END, alt, b"1", b"1") if same else (_START, _END, alt, b".", b"."))
        if not tails:
            return None
        missing = b",." * (len(texts) - len(tails))
        rest = missing + (fields.attributes(texts) if self._attributes else b"")
        at = rest.find(_END) if self._attributes else len(rest)
        starts, ends = rest[:at].split(_START), rest[at:].split(_END)
        width = len(tails) * digest.STRIDE
        return Plan(ref[0], tuple(tails), tuple(states), width, starts, ends, tuple(kinds))
