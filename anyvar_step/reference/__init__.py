"""Reference sequences: a FASTA or a SeqRepo per assembly (layer 1); ``for_assembly`` opens one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.settings import ANY_ASSEMBLY

__all__ = ["Contig", "Reference", "check", "for_assembly", "open_reference"]

#: Other names of assemblies, for the hint in an error; never followed silently.
_SYNONYMS = {
    **dict.fromkeys(("grch38", "hg38"), "GRCh38"),
    **dict.fromkeys(("grch37", "hg19", "b37", "hs37d5"), "GRCh37"),
    **dict.fromkeys(("t2t-chm13", "chm13", "chm13v2.0", "t2t-chm13v2.0", "hs1"), "T2T-CHM13"),
}


def open_reference(assembly: str, place: Path | str, *, aliases: Path | None = None) -> Reference:
    """A FASTA, plain or bgzipped, or a SeqRepo (see ``open_seqrepo``) as the reference of ``assembly``.

    A FASTA's index (.fai, .gzi) and refget accessions are made if they are missing, beside it or in the
    user's cache. ``aliases`` is a table of further contig names. Forked processes may share the reference.

    Raises ConfigurationError if there is none that can be used.
    """
    if str(place).startswith("seqrepo+"):
        from anyvar_step.reference.seqrepo import open_seqrepo

        return open_seqrepo(assembly, str(place), aliases)
    from anyvar_step.reference import refget
    from anyvar_step.reference.aliases import ContigAliases
    from anyvar_step.reference.fasta import FastaReference, open_fasta

    path = Path(place)
    source, contigs = open_fasta(path)
    refget.assign(path, contigs)
    names = ContigAliases({contig.name: contig.length for contig in contigs}, aliases)
    return FastaReference(assembly, source, contigs, names)


def for_assembly(
    references: Mapping[str, str], assembly: str, *, seqrepo: str = "", aliases: Path | None = None
) -> Reference:
    """The reference that is configured for an assembly, else the SeqRepo at the URI ``seqrepo``.

    Raises ConfigurationError, naming the setting, if there is neither.
    """
    place = references.get(assembly) or references.get(ANY_ASSEMBLY) or seqrepo
    if not place:
        known = f"known: {', '.join(sorted(references))}" if references else "none is set"
        meant = _SYNONYMS.get(assembly.lower())
        hint = f" ({assembly} is another name of {meant})" if meant not in (None, assembly) else ""
        raise ConfigurationError(
            f"no reference FASTA for assembly {assembly}{hint}; {known}",
            f"Use --reference {meant or assembly}=FASTA, or set ANYVAR_STEP_REFERENCE, or "
            "SEQREPO_DATAPROXY_URI, for which AnyVar takes seqrepo+http://localhost:5000/seqrepo",
        )
    return open_reference(assembly, place, aliases=aliases)


def check(place: str) -> None:
    """Raise ConfigurationError if there is no FASTA or SeqRepo at a place; neither is read."""
    if place.startswith("seqrepo+"):
        from anyvar_step.reference import seqrepo

        seqrepo.check(place)
    else:
        from anyvar_step.reference.fasta import is_bgzipped

        is_bgzipped(Path(place))
