"""Selections of records, and BCF as input and output: what ``bcftools view`` does, in another process."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Self

from isal import isal_zlib

from anyvar_step.errors import InputNotFound, InvalidInput, InvalidUsage, StepError
from anyvar_step.vcf.bgzf import CHUNK, EOF_BLOCK, ends_with_empty_line, stream_of
from anyvar_step.vcf.header import contig_names, with_contigs
from anyvar_step.vcf.reader import HEADER_BYTES, HEADER_LINES, VcfReader, open_input

#: Names are bytes to htslib, UTF-8 or not. With this verbosity it writes errors and warnings.
_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
import pysam, pysam.bcftools
pysam.set_verbosity(3)
try:
    pysam.bcftools.view(*map(os.fsencode, sys.argv[1:]), catch_stdout=False)
except pysam.SamtoolsError as error:
    sys.exit(str(error))
"""
_REMEDY = "Check it with `bcftools view`, or copy it again"

#: Bytes of a file that are enough for ``is_bcf``.
MAGIC_BYTES = 512


def is_bcf(head: bytes) -> bool:
    """Whether a file's first bytes begin a BCF, compressed as usual or not (VCF 4.3 §6)."""
    if head.startswith(b"\x1f\x8b"):
        with contextlib.suppress(zlib.error):
            head = zlib.decompressobj(31).decompress(head, 3)
    return head.startswith(b"BCF")


@contextlib.contextmanager
def open_vcf(path: Path, name: str) -> Iterator[BinaryIO]:
    """The VCF at ``path``, or the text of a BCF, which is not seekable.

    Raises InputNotFound or InvalidInput, also from reading.
    """
    with open_input(path, name) as raw:
        if not is_bcf(raw.peek(MAGIC_BYTES)):  # type: ignore[attr-defined]
            yield raw
            return
        _read_bcf_header(raw, name)
    with _Bcftools(["-Ov", str(path.absolute())], name, path) as process:
        yield process.output()


@dataclass(frozen=True)
class Selection:
    """Which records to take, and whether with genotypes; by default all. Values are as in ``bcftools view``.

    ``regions`` go by a record's whole length, ``targets`` by its POS; ``^`` before targets excludes them.
    ``pass_only`` excludes records that a filter has failed: FILTER is neither PASS nor ``.``.
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
        """Raise InputNotFound, before any work, if a file does not exist, or can be read once only."""
        for option, file in (("--regions-file", self.regions_file), ("--targets-file", self.targets_file)):
            path = Path(file.removeprefix("^"))
            if not file or path.is_file():
                continue
            if not path.exists():
                raise InputNotFound(f"{option} {file} does not exist", "Check the path")
            what = "a directory" if path.is_dir() else "a pipe or device, which cannot be read again"
            raise InputNotFound(f"{option} {file} is {what}", "Name a file")

    @contextlib.contextmanager
    def apply(self, raw: BinaryIO, path: Path | None, name: str) -> Iterator[BinaryIO]:
        """The selected records of a VCF or BCF as quickly compressed BGZF, not seekable.

        ``raw`` is the input as it is stored, at its beginning, and buffered; ``path`` is its file, None for a
        stream. With regions and an index beside the file, only the regions are read.

        Raises InvalidUsage for malformed regions or targets; InvalidInput, also from reading, if the input
        cannot be read, or if regions and targets are given and it has no index: bcftools can stream one of
        them only.
        """
        bcf = is_bcf(raw.peek(MAGIC_BYTES))  # type: ignore[attr-defined]
        # htslib's iterator over the index of a VCF refuses an empty line, which may end a file.
        indexed = path is not None and _is_indexed(path) and (bcf or not ends_with_empty_line(path))
        # htslib puts no limit to a header, so that it is checked before htslib reads it.
        reader, stored = (None, _read_bcf_header(raw, name)) if bcf else (VcfReader(raw, name), b"")

        def contigs() -> Collection[str]:
            declared = contig_names(reader.header) if reader else _bcf_contigs(path)
            return declared or (_indexed_contigs(path) if path and _is_indexed(path) else ())

        arguments = ["-Oz1", *self._arguments(indexed, contigs)]
        feed = None
        if reader and not (indexed and (self.regions or self.regions_file)):
            feed = _as_text(reader, reader.header)
        elif path is None:
            feed = _stored_chunks(stored, raw, name)
        with _Bcftools(
            [*arguments, "-" if feed or not path else str(path.absolute())], name, path, feed
        ) as process:
            yield process.output(self._file_error)

    def _arguments(self, indexed: bool, contigs: Callable[[], Collection[str]]) -> Iterator[str]:
        """For ``bcftools view``. Without an index, regions are looked for from first record to last."""
        regions, targets = self.regions or self.regions_file, self.targets or self.targets_file
        if regions and targets and not indexed:
            raise InvalidInput(
                "regions and targets together need an indexed file, whose last line is not empty",
                "Index IN with `bcftools index`",
            )
        if self.regions:
            regions = parse_regions(self.regions, "--regions", contigs)
        if self.targets:
            exclude = "^" * self.targets.startswith("^")
            targets = exclude + parse_regions(self.targets.removeprefix("^"), "--targets", contigs)
        if regions and indexed:
            yield from ("-r" if self.regions else "-R", regions)
        elif regions:
            yield from ("-t" if self.regions else "-T", regions, "--targets-overlap", "1")
        if targets:
            yield from ("-t" if self.targets else "-T", targets)
        if self.pass_only:
            yield from ("-f", "PASS,.")
        if self.drop_genotypes:
            yield "-G"

    def _file_error(self, messages: str) -> InvalidUsage | None:
        """The error if bcftools's messages refuse a file of regions or targets, else None."""
        refused = re.search("Failed to read the (regions|targets):", messages)
        if refused is None:
            return None
        both = self.regions_file and self.targets_file
        regions = self.regions_file and not (both and refused[1] == "targets")
        option = f"--regions-file {self.regions_file}" if regions else f"--targets-file {self.targets_file}"
        htslib = re.search(r"\[E::\w+\] (?:Could not parse (\d+)-th line|(.+))", messages)
        reason = "it has no region" if not htslib else htslib[2] or f"line {htslib[1]} is not a region"
        return InvalidUsage(
            f"{option}: {reason}",
            "Write one region per line, tab-separated: contig, position and, for an interval, last position; "
            "in a file named .bed or .bed.gz as BED",
        )

    def command_line(self) -> list[str]:
        """The options of this selection, files without their folders."""
        found: list[str] = []
        for option, text in (("--regions", self.regions), ("--targets", self.targets)):
            found += [option, text] if text else []
        for option, text in (("--regions-file", self.regions_file), ("--targets-file", self.targets_file)):
            name = text[: text.startswith("^")] + Path(text).name.removeprefix("^")
            found += [option, name] if text else []
        flags = (("--pass-only", self.pass_only), ("--drop-genotypes", self.drop_genotypes))
        return found + [option for option, chosen in flags if chosen]


#: What may follow a contig's name in a region: nothing, one position, or an interval whose end may be open.
_INTERVAL = re.compile(r"(?::(\d+)(?:(-)(\d*))?)?(?=,|$)")
#: A name that htslib understands without the header: in braces, or without colon and comma.
_NAME = re.compile(r"\{([^{}]+)\}|([^{}:,]+)")
#: What follows the first comma of a position with commas.
_THOUSANDS = re.compile(r"\d{3}(-\d+)?")


def parse_regions(text: str, option: str, contigs: Callable[[], Collection[str]]) -> str:
    """Regions ``NAME[:POS|:FROM-[TO]],…`` for htslib, each name in braces (hts_parse_region, htslib 1.10).

    A name may stand in braces already. Else it is the longest of the input's ``contigs`` that fits, since
    names may have colons and commas. Raises InvalidUsage, with ``option``, for what is not a region.
    """
    known = sorted(contigs(), key=len, reverse=True) if set(",:") & set(text) else ()
    found, at, positions = [], 0, False
    while at <= len(text):
        name, interval = _region_at(text, at, known)
        if interval is None:
            raise InvalidUsage(
                f"{option}: {text[at:] or text!r} is not a region",
                "Write NAME, NAME:POSITION or NAME:FROM-TO, more of them after commas; a name with a colon "
                "that the header does not declare in braces: {NAME}:FROM-TO",
            )
        if positions and _THOUSANDS.fullmatch(name):
            raise InvalidUsage(f"{option}: {text} has commas in positions", "Write positions without commas")
        start, dash, end = interval.groups("")
        if end and int(start) > int(end):
            raise InvalidUsage(
                f"{option}: {start}-{end} of {name} ends before it begins", "Write the smaller position first"
            )
        found.append(f"{{{name}}}" + (f":{start}{dash}{end}" if start else ""))
        at, positions = interval.end() + 1, bool(start)
    return ",".join(found)


def _region_at(text: str, at: int, known: Sequence[str]) -> tuple[str, re.Match[str] | None]:
    """The contig's name and the interval of the region that begins there; None if there is no region."""
    for name in known:
        if text.startswith(name, at) and (interval := _INTERVAL.match(text, at + len(name))):
            return name, interval
    plain = _NAME.match(text, at)
    return (plain[1] or plain[2], _INTERVAL.match(text, plain.end())) if plain else ("", None)


def _bcf_contigs(path: Path | None) -> Collection[str]:
    """The contigs that the header of a BCF declares; none for a stream."""
    if path is None:
        return ()
    with open_vcf(path, str(path)) as raw:
        return contig_names(VcfReader(raw, str(path)).header)


def _indexed_contigs(path: Path) -> Collection[str]:
    import pysam

    with pysam.TabixFile(str(path)) as index:
        return [str(name) for name in index.contigs]


def _is_indexed(path: Path) -> bool:
    """Whether an index stands beside the file and is not older, so that it is the file's own."""
    for suffix in (".csi", ".tbi"):
        with contextlib.suppress(FileNotFoundError):
            return Path(f"{path}{suffix}").stat().st_mtime_ns >= path.stat().st_mtime_ns
    return False


def write_bcf(
    path: Path, output: IO[bytes], level: int, name: str, undeclared: Mapping[str, int] | None = None
) -> None:
    """Write the VCF at ``path`` as BCF to the file ``output``, which messages call ``name``.

    BCF numbers contigs, filters and fields by their header lines. ``undeclared`` contigs, with their bases
    (0 = unknown), are declared if the header lacks them; for other faults InvalidInput has htslib's reason.
    """
    with path.open("rb") as raw:
        reader = VcfReader(raw, name)
        header = with_contigs(reader.header, undeclared or {})
        feed = _as_text(reader, header) if header != reader.header else None
        arguments = ["-Ob", "-l", str(min(level, 9)), "-" if feed else str(path.absolute())]
        with _Bcftools(arguments, name, path, feed, output) as process:
            if reason := process.failure():
                raise InvalidInput(
                    f"{name} cannot be written as BCF: {reason}",
                    "Declare in the header what is used, correct the record, or write a VCF with -O z",
                )


class _Bcftools:
    """A ``bcftools view`` in a process of its own, which is killed when the block ends.

    It reads the file at ``path``, which messages call ``name``, or what ``feed`` gives, and writes to the
    file ``output``, or to a pipe.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        name: str,
        path: Path | None,
        feed: Iterator[bytes] | None = None,
        output: IO[bytes] | int = subprocess.PIPE,
    ) -> None:
        self._name = name
        self._path = path
        self._feed = feed
        self._feed_error: StepError | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, "--no-version", *arguments],
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=output,
            stderr=self._stderr,
        )
        self._feeder = threading.Thread(target=self._write_input, name="feed bcftools", daemon=True)
        self._feeder.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._stderr.close()

    def output(self, explain: Callable[[str], StepError | None] = lambda _: None) -> BinaryIO:
        """The output, not seekable, whose end is reached only if bcftools ends well.

        Reading raises what ``feed`` raises, else what ``explain`` makes of bcftools's messages, else
        InvalidInput with the reason.
        """
        return stream_of(self._chunks(explain))

    def _chunks(self, explain: Callable[[str], StepError | None]) -> Iterator[bytes]:
        assert self._process.stdout is not None
        while chunk := self._process.stdout.read1(CHUNK):  # type: ignore[attr-defined]  # a BufferedReader
            yield chunk
        if reason := self.failure():
            error = explain(self._messages())
            raise error or InvalidInput(f"bcftools cannot read {self._name}: {reason}", _REMEDY)

    def failure(self) -> str:
        """Wait until bcftools has ended; why it failed, empty if it did not. Raises what ``feed`` raises."""
        code = self._process.wait()
        if code == 0 or self._feed_error:
            self._feeder.join()
        if self._feed_error:
            raise self._feed_error
        return self._reason(code) if code else ""

    def _reason(self, code: int) -> str:
        """The reason in htslib's words, with the user's name for the file.

        htslib's first error is the cause, later ones follow from it. If it could not write a record, it has
        warned of what the header lacks.
        """
        lines = self._messages().strip().splitlines()
        errors = [line for line in lines if line.startswith("[E::")]
        undeclared = [line for line in lines if "not defined in the header" in line]
        if undeclared and (not errors or "Unchecked error" in errors[0]):
            line = undeclared[0].partition(". (Quick")[0].partition(", assuming")[0]
        else:
            last = (lines or [f"it ended with {code}"])[-1]
            line = (errors or [last.partition("stderr=")[2] or last])[0]
        line = re.sub(r"^\[[EW]::\w+\] ", "", line).partition(". Please")[0]
        for shown in (self._path.absolute(), self._path) if self._path else ():
            line = line.replace(os.fsencode(shown).decode("utf-8", "backslashreplace"), self._name)
        return line.removesuffix("\\n'").strip(" .")

    def _messages(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "backslashreplace")

    def _write_input(self) -> None:
        if self._feed is None or self._process.stdin is None:
            return
        # If bcftools ends early, its exit code and messages say why.
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            try:
                for chunk in self._feed:
                    stdin.write(chunk)
            except StepError as error:
                self._feed_error = error


def _as_text(reader: VcfReader, header: Sequence[bytes]) -> Iterator[bytes]:
    """A VCF as text, with that header."""
    yield b"\n".join(header) + b"\n"
    yield from reader.text_blocks()


def _read_bcf_header(raw: BinaryIO, name: str) -> bytes:
    """The stored bytes of a BCF as far as its header goes; ``raw`` is at its beginning.

    Raises InvalidInput if the header has more bytes or lines than that of a VCF may have. Damage is left to
    bcftools.
    """
    stored, found = bytearray(), bytearray()
    inflate = isal_zlib.decompressobj(wbits=31)
    while chunk := raw.read1(1 << 14):  # type: ignore[attr-defined]  # a BufferedReader
        stored += chunk
        if stored.startswith(b"BCF"):
            found += chunk
        try:
            while not stored.startswith(b"BCF") and chunk:
                found += inflate.decompress(chunk)
                chunk = inflate.unused_data
                inflate = isal_zlib.decompressobj(wbits=31) if inflate.eof else inflate
        except isal_zlib.IsalError:  # type: ignore[misc]  # declared as an instance there
            break
        size = int.from_bytes(found[5:9], "little")
        if len(found) >= 9 and size > HEADER_BYTES:
            raise InvalidInput(f"{name} has a header of more than {HEADER_BYTES:,} bytes", "Is it a BCF?")
        if len(found) >= 9 + size:
            if found.count(b"\n", 9, 9 + size) > HEADER_LINES:
                raise InvalidInput(f"{name} has a header of more than {HEADER_LINES:,} lines", "Is it a BCF?")
            break
    return bytes(stored)


def _stored_chunks(stored: bytes, raw: BinaryIO, name: str) -> Iterator[bytes]:
    """A stream, of which ``stored`` was read; InvalidInput if it is BGZF without its end-of-file block."""
    tail = stored
    yield stored
    while chunk := raw.read1(CHUNK):  # type: ignore[attr-defined]  # a BufferedReader
        tail = (tail + chunk)[-len(EOF_BLOCK) :]
        yield chunk
    if stored.startswith(EOF_BLOCK[:2]) and not tail.endswith(EOF_BLOCK):
        raise InvalidInput(f"{name} is truncated: it does not end with the BGZF end-of-file block", _REMEDY)
