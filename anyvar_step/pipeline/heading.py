"""The header of an annotated VCF: our lines in it, and what becomes of those of an earlier annotation."""

from __future__ import annotations

from collections.abc import Sequence

from anyvar_step.errors import InvalidInput
from anyvar_step.models import AnnotateOptions, Existing
from anyvar_step.vcf.header import attributes_of, declared_fields, with_fields
from anyvar_step.vcf.provenance import with_provenance
from anyvar_step.vrs.fields import FIELD_NAMES, IDS, header_lines


def heading(
    header: Sequence[bytes], options: AnnotateOptions, existing: Existing, command: str, name: str
) -> list[bytes]:
    """The header to write; ``command`` is what its provenance lines say, empty for none.

    Raises InvalidInput where VRS fields are declared already and must not be, or cannot be kept beside new
    ones because they have another number of values.
    """
    ours = header_lines(for_ref=options.for_ref, attributes=options.add_vrs_attributes)
    if existing == "replace":
        return with_provenance(with_fields(header, ours, FIELD_NAMES), command)
    declared = {field: line for field, line in declared_fields(header).items() if field in FIELD_NAMES}
    if existing == "error" and declared:
        raise InvalidInput(
            f"{name} has been annotated already: its header declares {next(iter(declared)).decode()}",
            "Use --existing replace or --existing keep",
        )
    number = b"R" if options.for_ref else b"A"
    if IDS in declared and attributes_of(declared[IDS]).get(b"Number") != number:
        raise InvalidInput(
            f"the {IDS.decode()} of {name} cannot be kept: they are not of Number={number.decode()}, as new "
            "ones would be",
            "Use --existing replace, or choose --for-ref or --no-for-ref as it was done before",
        )
    missing = [line for line in ours if not declared.keys() & declared_fields([line]).keys()]
    return with_provenance(with_fields(header, missing, ()), command, keep=True)
