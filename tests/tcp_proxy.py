"""A TCP proxy in front of a server that loses bytes, breaks connections, or goes on to another server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class TcpProxy:
    """Listens on ``port`` of this host, in a thread of its own; all methods may be called from any other."""

    def __init__(self, target: int) -> None:
        self.port = 0
        #: The port to which new connections go.
        self.target = target
        #: Whether bytes are lost: no connection is refused, none is closed, and nothing arrives.
        self.swallows = False
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._connections = set[_Connection]()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def swallow_open(self) -> None:
        """Have the connections that are open now lose all bytes from now on; new ones are well."""
        self._call(lambda: [connection.swallow() for connection in self._connections])

    def drop(self) -> None:
        """Reset all connections that are open."""
        self._call(lambda: [connection.drop() for connection in [*self._connections]])

    def _call(self, act: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (act(), done.set()))
        assert done.wait(30)

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(30)

    def end(self) -> None:
        """Reset all connections, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in [*self._connections]:
            connection.drop()
        while self._connections:
            await asyncio.sleep(0.01)


class _Connection:
    """One client's connection, and the one to the server behind it."""

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = reader, writer
        self._writers: list[asyncio.StreamWriter] = [writer]
        self._swallows = False

    def swallow(self) -> None:
        self._swallows = True

    def drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def run(self) -> None:
        reader, writer = self._client
        try:
            if self._proxy.swallows:  # the server never hears of it
                while await reader.read(65_536):
                    pass
                return
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._proxy.target)
            self._writers.append(other_writer)
            await asyncio.gather(self._copy(reader, other_writer), self._copy(other_reader, writer))
        except OSError:
            pass
        finally:
            for each in self._writers:
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not (self._swallows or self._proxy.swallows):
                writer.write(data)
                await writer.drain()
        if self._swallows:
            return  # the other side does not hear of the end either
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


@contextlib.contextmanager
def tcp_proxy(target: int) -> Iterator[TcpProxy]:
    """A proxy in front of that port of this host."""
    proxy: Any = TcpProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.end()
