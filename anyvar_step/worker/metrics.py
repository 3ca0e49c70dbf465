"""``/metrics`` of a worker: an HTTP server in its parent process, for Prometheus."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from celery.signals import worker_process_init

from anyvar_step.errors import ConfigurationError
from anyvar_step.settings import Settings
from anyvar_step.worker.job import Observe

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def metrics(settings: Settings, host: str, port: int, *, processes: int) -> Iterator[Observe]:
    """Serve metrics at ``http://host:port/metrics`` while the block lasts; 0 = any free port.

    Enter it before the worker forks. Raises ConfigurationError if the address cannot be bound.
    """
    with tempfile.TemporaryDirectory(prefix="anyvar-step-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # prometheus_client reads it once, at import
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector

        from anyvar_step.worker.counters import Counters, Gauges

        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        registry.register(Gauges(settings, processes))
        counters = Counters()
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics at {host}:{port}: {error.strerror}",
                "Choose another --metrics-port or --metrics-host",
            ) from error

        def forget_socket(**_: Any) -> None:
            """Close the socket in a pool process, which may outlive its parent and would keep the port."""
            server.socket.close()

        worker_process_init.connect(forget_socket)
        _logger.info("metrics at http://%s:%d/metrics", host, server.server_port)
        try:
            yield counters.observe
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
