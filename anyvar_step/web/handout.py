"""A run's result on its way out: ranges, resumption, and a note of what has been sent."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

#: Called with the first and the last byte (exclusive) that were sent, and the file's size.
OnSent = Callable[[int, int, int], Awaitable[None]]

_RANGE = re.compile(r"bytes (\d+)-\d+/\d+")


class Handout(FileResponse):
    """The result as a file that can be had in parts (Range, If-Range)."""

    chunk_size = 1 << 20

    def __init__(self, path: Path, media_type: str, on_sent: OnSent, headers: dict[str, str]) -> None:
        stat_result = os.stat(path)  # noqa: PTH116  # what FileResponse itself would do later, in a thread
        super().__init__(path, media_type=media_type, stat_result=stat_result, headers=headers)
        self._size = stat_result.st_size
        self._on_sent = on_sent
        self._start: int | None = None
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; say how much of it went out, also when the client hangs up in between.

        That is said before the last piece goes: a client that has it may submit under the same id at once.
        """
        told = False

        async def tell() -> None:
            nonlocal told
            if scope["method"] != "HEAD" and self._start is not None and not told:
                told = True
                await self._on_sent(self._start, self._start + self._sent, self._size)

        async def counting(message: Message) -> None:
            self._count(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await tell()
            await send(message)

        try:
            await super().__call__(scope, receive, counting)
        finally:
            await tell()

    def _count(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._sent += len(message.get("body", b""))
        elif message["status"] == 200:
            self._start = 0
        elif message["status"] == 206:
            # An answer of several ranges has no Content-Range, and does not count.
            span = MutableHeaders(raw=list(message["headers"])).get("content-range", "")
            if match := _RANGE.fullmatch(span):
                self._start = int(match[1])
