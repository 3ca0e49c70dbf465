"""What integration tests share: a web API beside a worker and its client, a client of the site's Redis."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import redis
from support import Api, Site

from anyvar_step.runs.connection import redis_url


@pytest.fixture(scope="module")
def api(served: Site) -> Iterator[Api]:
    """The web API beside a worker."""
    with served.web() as running:
        yield running


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        yield client


@pytest.fixture
def client(site: Site) -> Iterator[redis.Redis]:
    """A client of the site's Redis."""
    with redis.Redis.from_url(redis_url(site.redis_url)) as opened:
        yield opened
