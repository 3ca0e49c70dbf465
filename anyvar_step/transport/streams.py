"""A VCF on its way through HTTP, up and down: never in memory, with progress, and resumed where it breaks."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import BinaryIO

import httpx

from anyvar_step.errors import RunLost, from_os
from anyvar_step.transport.client import Backoff, Client, TryLater

_logger = logging.getLogger(__name__)

#: Seconds between two lines on a transfer's progress (-v).
PERIOD = 10.0


class Meter:
    """Says every PERIOD how far a transfer is."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._said = time.monotonic()

    def at(self, done: int) -> None:
        """``done`` bytes have passed."""
        now = time.monotonic()
        if now - self._said >= PERIOD:
            self._said = now
            of = f" of {self._total / 1e6:,.0f}" if self._total else ""
            _logger.info("%s: %s%s MB", self._what, f"{done / 1e6:,.0f}", of)


class Upload:
    """The input as httpx reads it: digested again on the way, since it may change under us."""

    def __init__(self, source: BinaryIO, name: str, size: int) -> None:
        self._source = source
        self._meter = Meter(f"uploading {name}", size)
        self._digest = hashlib.sha256()
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        """The next piece."""
        piece = self._source.read(size)
        self._digest.update(piece)
        self._done += len(piece)
        self._meter.at(self._done)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Httpx goes to the beginning before it reads."""
        self._digest, self._done = hashlib.sha256(), 0
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Where the next piece begins."""
        return self._source.tell()

    def fileno(self) -> int:
        """Httpx takes the length from the file."""
        return self._source.fileno()

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of what was read."""
        return self._digest.hexdigest()


class Download:
    """One run's result on its way into ``target``."""

    def __init__(self, client: Client, path: str, target: Path) -> None:
        self._client = client
        self._path = path
        self._target = target
        self._etag = ""
        self._resumable = False

    def take(self, response: httpx.Response) -> None:
        """Save the answer's body, resumed with further requests where it breaks off.

        Raises RunLost where the web API has forgotten the result as it sent it, which AnyVar's does;
        Unavailable where it stays away; FileTrouble where this host's disk is full.
        """
        try:
            with self._target.open("wb") as out:
                self._begin(response)
                try:
                    with self._client.reaching():
                        self._copy(response, out)
                except TryLater as broken:
                    self._resume(out, broken)
        except OSError as error:
            raise from_os(error, f"cannot save the result in {self._target.parent}") from error

    def _begin(self, response: httpx.Response) -> None:
        headers = response.headers
        self._etag = headers.get("etag", "")
        encoded = headers.get("content-encoding", "identity") != "identity"
        self._resumable = bool(self._etag) and headers.get("accept-ranges") == "bytes" and not encoded

    def _copy(self, response: httpx.Response, out: BinaryIO) -> None:
        length = response.headers.get("content-length", "")
        meter = Meter(
            f"downloading {self._target.name}", out.tell() + int(length) if length.isdecimal() else 0
        )
        for piece in response.iter_bytes():
            out.write(piece)
            meter.at(out.tell())

    def _resume(self, out: BinaryIO, broken: TryLater) -> None:
        backoff, reached = Backoff(self._client.outage), out.tell()
        while True:
            _logger.info("the download broke off after %d bytes; resuming", out.tell())
            backoff.wait(broken)
            try:
                self._again(out)
                return
            except TryLater as trouble:
                broken = trouble
            if out.tell() > reached:
                reached = out.tell()
                backoff.reset()

    def _again(self, out: BinaryIO) -> None:
        done = out.tell() if self._resumable else 0
        headers = {"Range": f"bytes={done}-", "If-Range": self._etag} if done else {}
        with self._client.stream("GET", self._path, headers=headers) as response:
            span = response.headers.get("content-range", "")
            if response.status_code == 206 and span.startswith(f"bytes {done}-"):
                self._copy(response, out)
            elif response.status_code == 200:
                out.seek(0)
                out.truncate()
                self._begin(response)
                self._copy(response, out)
            elif response.status_code == 404:
                raise RunLost(
                    f"the download broke off after {done} bytes, and the web API has dropped the result",
                    "Run it again",
                )
            else:
                raise self._client.trouble(response, {})
