"""What the tests of the web API share: one that serves beside a worker, and a client."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support import Api, Site


@pytest.fixture(scope="module")
def api(served: Site) -> Iterator[Api]:
    """The web API beside a worker."""
    with served.web() as running:
        yield running


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        yield client
