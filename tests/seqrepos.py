"""A small real SeqRepo, written by biocommons.seqrepo's own API."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

#: SeqRepo compresses with the program bgzip; this one does so through pysam's htslib, so that tests need
#: nothing but Python packages.
_BGZIP = """#!{python}
import os, sys, pysam
if sys.argv[1] == "-h":
    print("\\nVersion: 1.16")
else:
    source = sys.argv[-1]
    pysam.tabix_compress(source, source + ".gz", force=True)
    os.unlink(source)
"""


def write_seqrepo(folder: Path, sequences: Mapping[str, Iterable[str]]) -> str:
    """A SeqRepo of these sequences with their ``namespace:alias`` names; its URI."""
    from biocommons.seqrepo import SeqRepo

    bgzip = folder.parent / "bgzip"
    bgzip.write_text(_BGZIP.format(python=sys.executable))
    bgzip.chmod(0o755)
    with mock.patch.dict(os.environ, SEQREPO_BGZIP_PATH=str(bgzip)):
        repo = SeqRepo(str(folder), writeable=True)
        for sequence, names in sequences.items():
            pairs = (name.split(":", 1) for name in names)
            repo.store(sequence, [{"namespace": space, "alias": alias} for space, alias in pairs])
        repo.commit()
    return f"seqrepo+file://{folder}"


class RestServer(ThreadingHTTPServer):
    """What biocommons/seqrepo-rest-service answers, over a real SeqRepo; ``failures`` are answered first."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: list[str] = []
        self.connections = 0
        self.failures: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/seqrepo"

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        self.connections += 1
        super().process_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RestServer

    def do_GET(self) -> None:
        from biocommons.seqrepo import SeqRepo

        self.server.requests.append(self.path)
        url = urlsplit(self.path)
        root, version, what, identifier = [*url.path.lstrip("/").split("/", 3), ""][:4]
        if self.server.failures:
            return self._answer(self.server.failures.pop(0), b"later")
        if (root, version) != ("seqrepo", "1"):
            return self._answer(404, b"")
        if what == "ping":
            return self._answer(200, b"{}")
        space, colon, alias = unquote(identifier).partition(":")
        space, alias = (space, alias) if colon else ("", space)
        repo = SeqRepo(str(self.server.folder))
        found = repo.aliases.find_aliases(**({"namespace": space} if space else {}), alias=alias)
        keys = {row["seq_id"] for row in found}
        if len(keys) != 1:
            return self._answer(422 if keys else 404, b"")
        (key,) = keys
        if what == "sequence":
            asked = {name: int(value) for name, (value,) in parse_qs(url.query).items()}
            text = repo.sequences.fetch(key, asked.get("start"), asked.get("end"))
            return self._answer(200, text.encode())
        about = repo.sequences.fetch_seqinfo(key)
        aliases = [f"{row['namespace']}:{row['alias']}" for row in repo.aliases.find_aliases(seq_id=key)]
        body = {
            "added": about["added"],
            "aliases": aliases,
            "alphabet": about["alpha"],
            "length": about["len"],
        }
        return self._answer(200, json.dumps(body, default=str).encode())

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[RestServer]:
    """The SeqRepo in that folder behind its REST service."""
    with RestServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
