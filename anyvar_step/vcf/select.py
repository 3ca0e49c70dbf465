"""Selections of records, and BCF as input and output: what ``bcftools view`` does, in another process."""

from __future__ import annotations

import contextlib
import io
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
from typing import IO, BinaryIO

from isal import isal_zlib

from anyvar_step.errors import InputNotFound, InvalidInput, InvalidUsage, StepError
from anyvar_step.vcf.bgzf import EOF_BLOCK, ends_with_empty_line
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
_CHUNK = 1 << 18
_REMEDY = "Check it with `bcftools view`, or copy it again"

#: Bytes in which a BGZF file's first block shows what it holds.
HEAD = 512


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
        if not is_bcf(raw.peek(HEAD)):  # type: ignore[attr-defined]
            yield raw
            return
        _read_bcf_header(raw, name)
    with _view(["-Ov", str(path.absolute())], None, name, path) as text:
        yield text


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

    @contextlib.contextmanager
    def of(self, raw: BinaryIO, path: Path | None, name: str) -> Iterator[BinaryIO]:
        """The selected records of a VCF or BCF as quickly compressed BGZF, not seekable.

        ``raw`` is the input as it is stored, at its beginning, and buffered; ``path`` is its file, None for a
        stream. Where regions are given and an index stands beside the file, only they are read.

        Raises InvalidUsage where regions or targets are none; InvalidInput, also from reading, where the
        input cannot be read, or has regions and targets and no index: bcftools can look for one of them at a
        time.
        """
        bcf = is_bcf(raw.peek(HEAD))  # type: ignore[attr-defined]
        # htslib's iterator over an index of a VCF refuses an empty line, which may end a file.
        indexed = path is not None and _is_indexed(path) and (bcf or not ends_with_empty_line(path))
        if bcf or (indexed and self._regions):
            # Before htslib reads the header, which puts no limit to it.
            stored = _read_bcf_header(raw, name) if bcf else b""
            if not bcf:
                VcfReader(raw, name)
            arguments = ["-Oz1", *self._arguments(indexed, lambda: _names_of(path) if path else ())]
            if path:
                opened = _view([*arguments, str(path.absolute())], None, name, path, self)
            else:
                opened = _view([*arguments, "-"], _chunks(stored, raw, name), name, None, self)
        else:
            reader = VcfReader(raw, name)
            arguments = [
                "-Oz1",
                *self._arguments(indexed, lambda: contig_names(reader.header) or _indexed_names(path)),
            ]
            opened = _view([*arguments, "-"], _texts(reader, reader.header), name, None, self)
        with opened as viewed:
            yield viewed

    @property
    def _regions(self) -> str:
        return self.regions or self.regions_file

    def _arguments(self, indexed: bool, names: Callable[[], Collection[str]]) -> Iterator[str]:
        """For ``bcftools view``. Without an index, regions are looked for from first record to last."""
        regions, targets = self._regions, self.targets or self.targets_file
        if regions and targets and not indexed:
            raise InvalidInput(
                "regions and targets together need an indexed file, whose last line is not empty",
                "Index IN with `bcftools index`",
            )
        if self.regions:
            regions = parse_regions(self.regions, "--regions", names)
        if self.targets:
            left_out = "^" * self.targets.startswith("^")
            targets = left_out + parse_regions(self.targets.removeprefix("^"), "--targets", names)
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

    def file_error(self, messages: str) -> InvalidUsage | None:
        """The failure where bcftools's messages refuse a file of regions or targets, else None."""
        refused = re.search("Failed to read the (regions|targets):", messages)
        if refused is None:
            return None
        both = self.regions_file and self.targets_file
        which = self.regions_file and not (both and refused[1] == "targets")
        option = f"--regions-file {self.regions_file}" if which else f"--targets-file {self.targets_file}"
        htslib = re.search(r"\[E::\w+\] (?:Could not parse (\d+)-th line|(.+))", messages)
        reason = "it has no region" if not htslib else htslib[2] or f"line {htslib[1]} is not a region"
        return InvalidUsage(
            f"{option}: {reason}",
            "Write one region per line, tab-separated: contig, position and, for an interval, last position; "
            "in a file named .bed or .bed.gz as BED",
        )

    def words(self) -> list[str]:
        """The command line that asks for it, files without their folders."""
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


def parse_regions(text: str, option: str, names: Callable[[], Collection[str]]) -> str:
    """Regions ``NAME[:POS|:FROM-[TO]],…`` for htslib, each name in braces (hts_parse_region, htslib 1.10).

    A name may stand in braces already. Else the longest name of the input that fits is meant, since names may
    have colons and commas. Raises InvalidUsage, with ``option``, where that leaves no region.
    """
    known = sorted(names(), key=len, reverse=True) if set(",:") & set(text) else ()
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
    """The contig's name and the interval of the region that begins there; None where there is none."""
    for name in known:
        if text.startswith(name, at) and (interval := _INTERVAL.match(text, at + len(name))):
            return name, interval
    plain = _NAME.match(text, at)
    return (plain[1] or plain[2], _INTERVAL.match(text, plain.end())) if plain else ("", None)


def _names_of(path: Path) -> Collection[str]:
    """The contigs that the header of a file declares, else those that its index has."""
    with open_vcf(path, str(path)) as raw:
        return contig_names(VcfReader(raw, str(path)).header) or _indexed_names(path)


def _indexed_names(path: Path | None) -> Collection[str]:
    """The contigs that the index of a VCF has; none where there is no index."""
    if path is None or not _is_indexed(path):
        return ()
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
    """Write the VCF at ``path`` as BCF to the file ``output``; messages call it ``name``.

    ``undeclared``: contigs that the header may lack, and their bases (0 = unknown); they are declared. Raises
    InvalidInput with what htslib says: BCF numbers contigs, filters and fields by their header lines.
    """
    arguments = ["-Ob", "-l", str(min(level, 9))]
    with contextlib.ExitStack() as stack:
        feed = None
        reader = VcfReader(stack.enter_context(path.open("rb")), name)
        header = with_contigs(reader.header, undeclared or {})
        if header != reader.header:
            feed = _texts(reader, header)
        arguments.append("-" if feed else str(path.absolute()))
        process = stack.enter_context(_Bcftools(arguments, feed, output))
        if code := process.wait():
            raise InvalidInput(
                f"{name} cannot be written as BCF: {process.reason(code, name, path)}",
                "Declare in the header what is used, correct the record, or write a VCF with -O z",
            )


@contextlib.contextmanager
def _view(
    arguments: Sequence[str],
    feed: Iterator[bytes] | None,
    name: str,
    path: Path | None = None,
    selection: Selection | None = None,
) -> Iterator[BinaryIO]:
    """What ``bcftools view`` writes with these arguments, not seekable; ``feed`` goes to its input.

    Its end is reached only when bcftools has ended well. Raises InvalidInput, from reading, with what it said
    of ``name``, the file at ``path``, and what ``feed`` raises; InvalidUsage where a file of the
    ``selection`` is at fault. Leaving the block early ends the process.
    """
    with (
        _Bcftools(arguments, feed, subprocess.PIPE) as process,
        io.BufferedReader(_Output(process, name, path, selection), _CHUNK) as output,
    ):
        yield output


class _Bcftools:
    """A ``bcftools view`` in a process of its own, which ends with the block."""

    def __init__(
        self, arguments: Sequence[str], feed: Iterator[bytes] | None, output: IO[bytes] | int
    ) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._feed = feed
        self._problem: StepError | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, "--no-version", *arguments],
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=output,
            stderr=self._said,
        )
        self.stdout = self._process.stdout
        self._feeder = threading.Thread(target=self._hand_over, name="feed bcftools", daemon=True)
        self._feeder.start()

    def __enter__(self) -> _Bcftools:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self.stdout:
            self.stdout.close()
        self._said.close()

    def wait(self) -> int:
        """Its exit code, when it has ended. Raises what its input raised."""
        code = self._process.wait()
        if code == 0 or self._problem:
            self._feeder.join()
        if self._problem:
            raise self._problem
        return code

    def messages(self) -> str:
        """What it has written to standard error."""
        self._said.seek(0)
        return self._said.read().decode("utf-8", "backslashreplace")

    def reason(self, code: int, name: str, path: Path | None) -> str:
        """Why it has ended with that code, in htslib's words, with ``name`` for the ``path`` it was given.

        htslib says an error first, and what follows from it after that. Where it cannot write a record it
        has warned of what the header lacks.
        """
        lines = self.messages().strip().splitlines()
        errors = [line for line in lines if line.startswith("[E::")]
        lacking = [line for line in lines if "not defined in the header" in line]
        if lacking and (not errors or "Unchecked error" in errors[0]):
            line = lacking[0].partition(". (Quick")[0].partition(", assuming")[0]
        else:
            last = (lines or [f"it ended with {code}"])[-1]
            line = (errors or [last.partition("stderr=")[2] or last])[0]
        line = re.sub(r"^\[[EW]::\w+\] ", "", line).partition(". Please")[0]
        for shown in (path.absolute(), path) if path else ():
            line = line.replace(os.fsencode(shown).decode("utf-8", "backslashreplace"), name)
        return line.removesuffix("\\n'").strip(" .")

    def _hand_over(self) -> None:
        if self._feed is None or self._process.stdin is None:
            return
        # Where bcftools ends early, its exit code says why.
        with contextlib.suppress(BrokenPipeError), self._process.stdin as sink:
            try:
                for text in self._feed:
                    sink.write(text)
            except StepError as problem:
                self._problem = problem


class _Output(io.RawIOBase):
    """The process's output, whose end raises an exception where the process has failed."""

    def __init__(self, process: _Bcftools, name: str, path: Path | None, selection: Selection | None) -> None:
        self._process = process
        self._name = name
        self._path = path
        self._selection = selection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        data = self._process.stdout.read1(len(buffer))  # type: ignore[union-attr]  # a BufferedReader
        buffer[: len(data)] = data
        if not data and (code := self._process.wait()):
            if self._selection and (error := self._selection.file_error(self._process.messages())):
                raise error
            reason = self._process.reason(code, self._name, self._path)
            raise InvalidInput(f"bcftools cannot read {self._name}: {reason}", _REMEDY)
        return len(data)


def _texts(reader: VcfReader, header: Sequence[bytes]) -> Iterator[bytes]:
    """A VCF as text."""
    yield b"\n".join(header) + b"\n"
    yield from reader.texts()


def _read_bcf_header(raw: BinaryIO, name: str) -> bytes:
    """The stored bytes of a BCF as far as its header goes; ``raw`` is at its beginning.

    Raises InvalidInput where the header has more bytes or lines than that of a VCF may have. Damage is left
    to bcftools.
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


def _chunks(stored: bytes, raw: BinaryIO, name: str) -> Iterator[bytes]:
    """A stream, of which ``stored`` was read; InvalidInput where it is BGZF without its end-of-file block."""
    tail = stored
    yield stored
    while chunk := raw.read1(_CHUNK):  # type: ignore[attr-defined]  # a BufferedReader
        tail = (tail + chunk)[-len(EOF_BLOCK) :]
        yield chunk
    if stored.startswith(EOF_BLOCK[:2]) and not tail.endswith(EOF_BLOCK):
        raise InvalidInput(f"{name} is truncated: it does not end with the BGZF end-of-file block", _REMEDY)
