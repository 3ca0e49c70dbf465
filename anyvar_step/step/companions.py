"""Files made of the annotated VCF on its way to OUT: VRS objects (--ndjson) and a table of ids (--tsv).

Both follow from the VCF with its VRS attributes, but for one thing that it does not say and the worker's
report does: which sequences its contigs are. So they work over every transport and with pieces, and cost
nothing where nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anyvar_step.errors import ConfigurationError, InvalidInput
from anyvar_step.models import OutputFormat, RunReport
from anyvar_step.step.drafts import publish, temporary
from anyvar_step.vcf import VcfReader, VcfWriter

#: Turns a block of record lines into lines of a companion.
_Make = Callable[[list[bytes]], list[bytes]]


@dataclass(frozen=True)
class Companions:
    """Which files are wanted; a name that ends with .gz gets BGZF of that ``level``."""

    ndjson: Path | None = None
    tsv: Path | None = None
    level: int = 6

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those that are wanted."""
        return tuple(path for path in (self.ndjson, self.tsv) if path)


class Drafts:
    """The wanted files under temporary names."""

    def __init__(self, wanted: Companions, drafts: Mapping[Path, Path]) -> None:
        self._wanted = wanted
        self._drafts = drafts

    def fill(self, vcf: Path, *reports: RunReport | None) -> None:
        """Write all of them from the whole annotated ``vcf``; the reports are its workers'.

        Raises ConfigurationError where the VCF or the reports do not say enough, InvalidInput where fields
        that were kept from IN do not belong together.
        """
        if not self._drafts:
            return
        accessions = {name: sq for report in reports if report for name, sq in report.sequences.items()}
        with vcf.open("rb") as raw, ExitStack() as stack:
            reader = VcfReader(raw, "the annotated VCF")
            making = []
            for path, title, make in self._makers(reader, accessions):
                writer = stack.enter_context(self._writer(path))
                writer.write(title)
                making.append((writer, make))
            for lines in reader.blocks():
                for writer, make in making:
                    writer.write(_made(make, lines, reader))

    def _writer(self, path: Path) -> VcfWriter:
        form: OutputFormat = "z" if path.suffix.lower() in (".gz", ".bgz") else "v"
        return VcfWriter(self._drafts[path], form, level=self._wanted.level, name=str(path))

    def _makers(
        self, reader: VcfReader, accessions: Mapping[str, str]
    ) -> Iterator[tuple[Path, list[bytes], _Make]]:
        """Each wanted file with its first lines and what makes its other lines."""
        # Here, since few steps want any, and none else needs the engine.
        from anyvar_step.vrs.claims import includes_ref, lacking
        from anyvar_step.vrs.objects import COLUMNS, objects, rows

        if self._wanted.ndjson:
            if missing := lacking(reader.header):
                raise ConfigurationError(
                    f"--ndjson needs {', '.join(name.decode() for name in missing)}, and the run was "
                    "submitted without",
                    "Submit it with --attributes",
                )
            yield self._wanted.ndjson, [], partial(objects, accessions=accessions)
        if self._wanted.tsv:
            title = b"\t".join(COLUMNS)
            yield self._wanted.tsv, [title], partial(rows, for_ref=includes_ref(reader.header))


@contextmanager
def drafted(wanted: Companions) -> Iterator[Drafts]:
    """Drafts to fill; they get their names, all or none, when the block ends well."""
    with ExitStack() as stack:
        drafts = {path: stack.enter_context(temporary(path)) for path in wanted.paths}
        yield Drafts(wanted, drafts)
        for path, draft in drafts.items():
            publish(draft, path)


def _made(make: _Make, lines: list[bytes], reader: VcfReader) -> list[bytes]:
    from anyvar_step.vrs.objects import UnknownSequence

    try:
        return make(lines)
    except UnknownSequence as contig:
        raise ConfigurationError(
            f"--ndjson needs to know which sequence {contig} is, and this run's worker does not say: "
            "it is AnyVar's own, or behind AnyVar's web API",
            "Leave out --ndjson, or let anyvar-step's workers do the run",
        ) from None
    except ValueError as error:
        raise InvalidInput(
            f"the annotated VCF has a record at line {reader.first_line} or soon after it of which nothing "
            f"else can be made: {error}",
            "Use --existing replace where IN had VRS fields already",
        ) from None
