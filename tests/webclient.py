"""A client of the web API as AnyVar publishes it: PUT, then GET until it is no 202."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
from support import Site, until

#: The fields of each answer on a run.
FIELDS = {"run_id", "status", "status_message"}


def put(client: httpx.Client, content: bytes, path: str = "/vcf", **query: object) -> httpx.Response:
    parameters = {name: str(value) for name, value in query.items()}
    return client.put(path, params=parameters, files={"vcf": ("sample.vcf", content)})


def ended(client: httpx.Client, path: str) -> httpx.Response:
    """What AnyVar's published client does: GET until it is no 202."""
    deadline = time.monotonic() + 60
    while (answer := client.get(path)).status_code == 202:
        assert answer.json().keys() >= FIELDS
        assert answer.json()["status"] == "PENDING"
        assert answer.headers["retry-after"] == "2"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def folders(site: Site) -> list[str]:
    return sorted(path.name for path in site.left_over() if path.is_dir())


def finished(http: httpx.Client, vcf: Path) -> str:
    """The path of a finished run whose result nobody has fetched."""
    path = put(http, vcf.read_bytes(), run_async=True).headers["location"]
    until(lambda: http.head(path).status_code == 200)
    return str(path)
