"""A VCF on its way in: the multipart field ``vcf`` goes into the work dir piece by piece, as it arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from anyvar_step.errors import InvalidInput
from anyvar_step.files import remove_tree
from anyvar_step.runs.work_dir import Staged, Staging, WorkDir
from anyvar_step.vcf import VcfReader
from anyvar_step.vcf.select import open_vcf
from anyvar_step.vrs.validate import lacking
from anyvar_step.web.responses import Refused, invalid

#: Bytes of an upload, as it is stored, from which its records are estimated.
SAMPLE = 1 << 20
#: Bytes of it, decompressed, that are looked at: what compresses well must not keep a thread for long.
LONGEST_SAMPLE = 1 << 26


@dataclass(frozen=True)
class Uploaded:
    """A staged upload and the file name that the client gave it."""

    staged: Staged
    name: str

    @contextmanager
    def reader(self) -> Iterator[VcfReader]:
        """A reader of the VCF; raises InvalidInput where it is none."""
        with open_vcf(self.staged.folder / self.staged.input_name, self.name) as raw:
            yield VcfReader(raw, self.name)


def refusal_to_ingest(uploaded: Uploaded) -> str:
    """Why the upload cannot be ingested: it is no VCF, or its header lacks VRS fields; empty where it can."""
    try:
        with uploaded.reader() as reader:
            missing = lacking(reader.header)
    except InvalidInput as error:
        return str(error)
    names = ", ".join(name.decode() for name in missing)
    return f"{uploaded.name} lacks required VRS annotations: {names}" if names else ""


def expected_seconds(uploaded: Uploaded, per_record: float) -> int:
    """Seconds that the run will take about, at least 1; from the records in the upload's first part.

    Counted in records, not in bytes, so that compressed uploads get a fair answer, too
    (docs/contract.md#web-api).
    """
    try:
        with uploaded.reader() as reader:
            records = size = 0
            for lines in reader.blocks():
                records += len(lines)
                size += sum(map(len, lines))
                if reader.consumed > SAMPLE or size > LONGEST_SAMPLE:
                    break
            return max(1, round(records * uploaded.staged.size / reader.consumed * per_record))
    except InvalidInput:
        return 1


#: The multipart field, as in AnyVar's API.
FIELD = b"vcf"
#: Bytes that are gathered before a thread writes them.
PIECE = 1 << 20
#: What a multipart body has beside the file, at most, for the early look at Content-Length.
ENVELOPE = 1 << 16
#: Bytes of one header of a part of the body.
LONGEST_HEADER = 1 << 13


async def receive_vcf(request: Request, workdir: WorkDir, limit: int | None, patience: float) -> Uploaded:
    """Stage the upload. An upload that breaks off, is too large or no multipart leaves nothing behind.

    ``patience`` is for how many seconds nothing may come. Raises Refused (400, 408, 413), ClientDisconnect,
    RequestValidationError (422, no field ``vcf``), FileTrouble.
    """
    declared = request.headers.get("content-length", "")
    if limit is not None and declared.isdecimal() and int(declared) > limit + ENVELOPE:
        raise _too_large(limit)
    upload = _Upload(_boundary(request), workdir, limit)
    try:
        pieces = request.stream()
        while True:
            with anyio.fail_after(patience):
                data = await anext(pieces, None)
            if data is None:
                break
            upload.feed(data)
            if len(upload.pending) >= PIECE:
                await run_in_threadpool(upload.write)
        uploaded = await run_in_threadpool(upload.finish)
    except TimeoutError:
        await run_in_threadpool(upload.discard)
        raise Refused(408, f"nothing came of the upload for {patience:g} s") from None
    except BaseException:
        upload.discard()
        raise
    await run_in_threadpool(_check_header_size, uploaded)
    return uploaded


def _check_header_size(uploaded: Uploaded) -> None:
    """Raise Refused (413) where the VCF, decompressed, has a header beyond the reader's bounds.

    Anything else that is wrong with it is its run's failure, as in AnyVar's API.
    """
    try:
        with uploaded.reader():
            pass
    except InvalidInput as error:
        if error.too_large:
            remove_tree(uploaded.staged.folder)
            raise Refused(413, str(error)) from error


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise _missing()
    return boundary


class _Upload:
    """The parser's state; ``feed`` runs in the event loop, ``write`` and ``finish`` in threads."""

    def __init__(self, boundary: bytes, workdir: WorkDir, limit: int | None) -> None:
        self.pending = bytearray()
        self._workdir = workdir
        self._limit = limit
        self._staging: Staging | None = None
        self._name: str | None = None
        self._size = self._others = 0
        self._inside = self._ended = False
        self._header = (bytearray(), bytearray())
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._add(self._header[0], data[start:end]),
                "on_header_value": lambda data, start, end: self._add(self._header[1], data[start:end]),
                "on_header_end": self._on_header,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise Refused(400, f"the body is no multipart/form-data: {error}") from error

    def _add(self, to: bytearray, data: bytes) -> None:
        if len(to) + len(data) > LONGEST_HEADER:
            raise Refused(400, f"a part of the body has a header of more than {LONGEST_HEADER} bytes")
        to += data

    def _on_header(self) -> None:
        field, value = bytes(self._header[0]).lower(), bytes(self._header[1])
        self._header = (bytearray(), bytearray())
        if field == b"content-disposition" and self._name is None:
            _, options = parse_options_header(value)
            if options.get(b"name") == FIELD:
                self._name = _printable(options.get(b"filename", b""))
                self._inside = True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._inside:
            self._others += end - start
            if self._others > ENVELOPE:
                raise Refused(413, f"form fields beside {FIELD.decode()} have more than {ENVELOPE} bytes")
            return
        self._size += end - start
        if self._limit is not None and self._size > self._limit:
            raise _too_large(self._limit)
        self.pending += data[start:end]

    def _on_part_end(self) -> None:
        self._inside = False

    def _on_end(self) -> None:
        self._ended = True

    def write(self) -> None:
        if self._staging is None:
            gzipped = self.pending.startswith(b"\x1f\x8b")
            self._staging = self._workdir.open_staging("input.vcf.gz" if gzipped else "input.vcf")
        self._staging.write(bytes(self.pending))
        self.pending.clear()

    def finish(self) -> Uploaded:
        if not self._ended:
            raise Refused(400, "the upload ends before the end of its multipart body")
        if self._name is None:
            raise _missing()
        self.write()
        assert self._staging is not None
        return Uploaded(self._staging.finish(), self._name)

    def discard(self) -> None:
        if self._staging is not None:
            self._staging.discard()


def _printable(filename: bytes) -> str:
    """The file name for messages: its last part, no control characters, of a decent length."""
    text = re.split(r"[/\\]", filename.decode(errors="replace"))[-1]
    return "".join(char for char in text if char.isprintable())[:200] or "the upload"


def _missing() -> RequestValidationError:
    return invalid(("body", "vcf"), "missing", "Field required")


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the VCF is larger than {limit} bytes, which ANYVAR_STEP_MAX_UPLOAD allows here")
