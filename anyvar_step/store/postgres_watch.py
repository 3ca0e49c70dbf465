"""A look at the server while it works for us: libpq itself waits for ever for one that hangs."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import errors as pg


@contextlib.contextmanager
def watched(connection: psycopg.Connection[Any], options: Mapping[str, Any], every: float) -> Iterator[None]:
    """Cut the connection when the server, asked every so many seconds, does not even take another one.

    The block then fails as after any lost connection. A server that is only slow takes connections, and may
    take its time.
    """
    ended = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:

        def watch() -> None:
            while not ended.wait(every):
                if not _answers(options):
                    with contextlib.suppress(OSError):  # it is closed already
                        ours.shutdown(socket.SHUT_RDWR)
                    return

        thread = threading.Thread(target=watch, name="store watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _answers(options: Mapping[str, Any]) -> bool:
    """Whether the server says anything within the options' ``connect_timeout``, were it a refusal."""
    try:
        psycopg.connect(**options).close()
    except pg.ConnectionTimeout:
        return False
    except psycopg.Error:
        return True
    return True
