"""Which records and columns of an input are wanted, in the words of ``bcftools view``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anyvar_step.errors import InputNotFound, InvalidInput


@dataclass(frozen=True)
class Selection:
    """Nothing chosen = all of the input. Texts and files are as ``bcftools view`` takes them.

    ``regions`` go by a record's whole length, ``targets`` by its POS; ``^`` before targets leaves them out.
    ``pass_only`` leaves out records that a filter has failed: FILTER is PASS or ``.``.
    """

    regions: str = ""
    regions_file: str = ""
    targets: str = ""
    targets_file: str = ""
    pass_only: bool = False
    drop_genotypes: bool = False

    def __bool__(self) -> bool:
        return self != Selection()

    def check(self) -> None:
        """Raise InputNotFound, before any work, where a file does not exist, or can be read once only."""
        for option, file in (("--regions-file", self.regions_file), ("--targets-file", self.targets_file)):
            path = Path(file.removeprefix("^"))
            if not file or path.is_file():
                continue
            if not path.exists():
                raise InputNotFound(f"{option} {file} does not exist", "Check the path")
            what = "a directory" if path.is_dir() else "a pipe or device, which cannot be read again"
            raise InputNotFound(f"{option} {file} is {what}", "Name a file")

    def arguments(self, indexed: bool) -> list[str]:
        """For ``bcftools view``. Without an index, regions are looked for from the first record to the last.

        Raises InvalidInput for regions and targets together where there is no index: bcftools can look for
        one of them at a time.
        """
        found = [*self._places(indexed)]
        if self.pass_only:
            found += ["-f", "PASS,."]
        if self.drop_genotypes:
            found += ["-G"]
        return found

    def _places(self, indexed: bool) -> Iterator[str]:
        regions, targets = self.regions or self.regions_file, self.targets or self.targets_file
        if regions and targets and not indexed:
            raise InvalidInput(
                "regions and targets together need an indexed file", "Index IN with `bcftools index`"
            )
        if regions and indexed:
            yield from ("-r", regions) if self.regions else ("-R", regions)
        elif regions:
            yield from ("-t", regions) if self.regions else ("-T", regions)
            yield from ("--targets-overlap", "1")
        if targets:
            yield from ("-t", targets) if self.targets else ("-T", targets)

    def words(self) -> list[str]:
        """The command line that asks for it, files without their folders."""
        found: list[str] = []
        for option, text in (("--regions", self.regions), ("--targets", self.targets)):
            found += [option, text] if text else []
        for option, text in (("--regions-file", self.regions_file), ("--targets-file", self.targets_file)):
            found += (
                [option, text[: text.startswith("^")] + Path(text).name.removeprefix("^")] if text else []
            )
        flags = (("--pass-only", self.pass_only), ("--drop-genotypes", self.drop_genotypes))
        return found + [option for option, chosen in flags if chosen]
