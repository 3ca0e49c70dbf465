"""Header lines that say which program wrote a VCF and by what command, in the form of bcftools' own."""

from __future__ import annotations

from collections.abc import Sequence

from anyvar_step import VRS_VERSION, __version__

_OURS = (b"##anyvar_stepVersion=", b"##anyvar_stepCommand=")


def with_provenance(header: Sequence[bytes], command: str, *, keep: bool = False) -> list[bytes]:
    """The header with our lines before #CHROM; those of an earlier annotation stay only with ``keep``.

    No lines for an empty command. The lines have neither date nor path, so that the same records under the
    same options have the same header (PITFALLS.md 19).
    """
    version = f"{__version__}+vrs-{VRS_VERSION}"
    texts = (version, command) if command else ()
    lines = [head + text.encode() for head, text in zip(_OURS, texts, strict=False)]
    before = [line for line in header[:-1] if line not in lines and (keep or not line.startswith(_OURS))]
    return [*before, *lines, header[-1]]
