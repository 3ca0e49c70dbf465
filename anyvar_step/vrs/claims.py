"""The alleles that records already name in their VRS fields, as they stand there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from anyvar_step.vcf.header import attributes_of, declared_fields
from anyvar_step.vrs import fields

#: The fields without which an allele cannot be read back; AnyVar asks for the same.
NEEDED = (fields.IDS, *fields.ATTRIBUTES)


class Claim(NamedTuple):
    """One allele as its record's fields name it: identifier and the values of the attribute fields."""

    id: bytes
    texts: fields.Texts

    @property
    def is_ambiguous(self) -> bool:
        """State ``.`` without a length: an empty literal, or a sequence that older versions left out."""
        return self.texts[2] == self.texts[3] == b"."


def lacking(header: Iterable[bytes]) -> list[bytes]:
    """The needed fields that no ##INFO line of the header declares."""
    declared = declared_fields(header)
    return [name for name in NEEDED if name not in declared]


def claims_of(line: bytes) -> list[Claim]:
    """The alleles that a record names, ``.`` among them; none where it has no identifiers.

    Raises ValueError where its fields cannot belong together.
    """
    if fields.IDS not in line:
        return []
    columns = line.split(b"\t", 8)
    if len(columns) < 8:
        raise ValueError(f"it has {len(columns)} tab-separated columns, and a VCF record has at least 8")
    info = dict(item.partition(b"=")[::2] for item in columns[7].split(b";"))
    if not info.get(fields.IDS):
        return []
    missing = [name.decode() for name in fields.ATTRIBUTES if name not in info]
    if missing:
        raise ValueError(f"it has {fields.IDS.decode()} without {', '.join(missing)}")
    values = [info[name].split(b",") for name in NEEDED]
    if len({len(value) for value in values}) > 1:
        raise ValueError("its VRS fields have different numbers of values")
    return [Claim(id_, tuple(texts)) for id_, *texts in zip(*values, strict=True)]


def ids_of(line: bytes) -> list[bytes]:
    """The identifiers that a record carries, ``.`` among them; none where it has no such field."""
    info = line.split(b"\t", 8)[7]
    return info.rpartition(fields.IDS + b"=")[2].partition(b";")[0].split(b",") if fields.IDS in info else []


def includes_ref(header: Iterable[bytes]) -> bool:
    """Whether the identifiers are those of REF, too, by the header's ##INFO line."""
    return attributes_of(declared_fields(header).get(fields.IDS, b"")).get(b"Number") != b"A"
