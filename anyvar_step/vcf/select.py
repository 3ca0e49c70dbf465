"""Which records and columns of an input are wanted, in the words of ``bcftools view``."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from anyvar_step.errors import InputNotFound, InvalidInput
from anyvar_step.vcf.bgzf import EOF_BLOCK
from anyvar_step.vcf.reader import open_input

_PROGRAM = """
import signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
import pysam, pysam.bcftools
pysam.set_verbosity(3)
try:
    pysam.bcftools.view(*sys.argv[1:], catch_stdout=False)
except pysam.SamtoolsError as error:
    sys.exit(str(error))
"""
_CHUNK = 1 << 18
_REMEDY = "Check it with `bcftools view`, or copy it again"


@contextlib.contextmanager
def view(arguments: Sequence[str], source: BinaryIO | None, name: str) -> Iterator[BinaryIO]:
    """What ``bcftools view`` writes with these arguments, not seekable; ``source`` goes to its input.

    Its end is reached only when bcftools has ended well. Raises InvalidInput, from reading, with what it
    said of ``name``; leaving the block early ends it.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, "--no-version", *arguments],
            stdin=subprocess.DEVNULL if source is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        feeder = None if source is None else _Feeder(source, process.stdin)
        try:
            with io.BufferedReader(_Output(process, said, feeder, name), _CHUNK) as output:
                yield output
        finally:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]  # it was asked for


def write_bcf(path: Path, output: IO[bytes], level: int, name: str) -> None:
    """Write the VCF at ``path`` as BCF to the file ``output``; messages call it ``name``.

    Raises InvalidInput with what bcftools said: contigs, filters and fields need their header lines.
    """
    with tempfile.TemporaryFile() as said:
        arguments = ("--no-version", "-Ob", "-l", str(min(level, 9)), str(path.absolute()))
        command = [sys.executable, "-P", "-c", _PROGRAM, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=said, check=False)
        if done.returncode:
            raise InvalidInput(
                f"{name} cannot be written as BCF: {_reason(said) or _last_words(said, done.returncode)}",
                "Declare in the header what is used, correct the record, or write a VCF with -O z",
            )


class _Feeder(threading.Thread):
    """Hands a stream over to bcftools; ``cut`` where it was BGZF without its end-of-file block."""

    def __init__(self, source: BinaryIO, sink: IO[bytes] | None) -> None:
        super().__init__(name="feed bcftools", daemon=True)
        self.cut = False
        self._source = source
        self._sink = sink
        self.start()

    def run(self) -> None:
        assert self._sink
        head = tail = b""
        # Once bcftools has gone, its exit code says why.
        with contextlib.suppress(BrokenPipeError), self._sink as sink:
            while chunk := self._source.read1(_CHUNK):  # type: ignore[attr-defined]  # as it comes
                head = head or chunk[:2]
                tail = (tail + chunk)[-len(EOF_BLOCK) :]
                sink.write(chunk)
            self.cut = head == EOF_BLOCK[:2] and tail != EOF_BLOCK


class _Output(io.RawIOBase):
    """The process's output, whose end raises an exception where the process has failed."""

    def __init__(
        self, process: subprocess.Popen[bytes], said: IO[bytes], feeder: _Feeder | None, name: str
    ) -> None:
        self._process = process
        self._said = said
        self._feeder = feeder
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        data = self._process.stdout.read1(len(buffer))  # type: ignore[union-attr]  # a BufferedReader
        buffer[: len(data)] = data
        if not data:
            self._check_end()
        return len(data)

    def _check_end(self) -> None:
        if code := self._process.wait():
            raise InvalidInput(f"bcftools cannot read {self._name}: {_last_words(self._said, code)}", _REMEDY)
        if self._feeder:
            self._feeder.join()
            if self._feeder.cut:
                raise InvalidInput(
                    f"{self._name} is truncated: it does not end with the BGZF end-of-file block", _REMEDY
                )


def _last_words(said: IO[bytes], code: int) -> str:
    """Why bcftools has ended badly: what it said last, or its exit code."""
    lines = _lines(said)
    words = lines[-1] if lines else f"it ended with {code}"
    return (words.partition("stderr=")[2] or words).replace("\\n", "").strip(" .'")


def _reason(said: IO[bytes]) -> str:
    """What the header lacks first, or what BCF cannot hold, in htslib's words; empty where it is neither."""
    known = ("not defined in the header", "not representable in BCF")
    line = next((line for line in _lines(said) if any(words in line for words in known)), "")
    return line.partition("] ")[2].partition(". Please")[0]


def _lines(said: IO[bytes]) -> list[str]:
    said.seek(0)
    return said.read().decode("utf-8", "backslashreplace").strip().splitlines()


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
    with view(["-Ov", str(path.absolute())], None, name) as text:
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
