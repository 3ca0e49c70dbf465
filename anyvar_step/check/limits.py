"""Settings that fit together, beyond what loading them refuses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from anyvar_step.check.findings import Finding
from anyvar_step.settings import Settings
from anyvar_step.values import masked


def names(settings: Settings) -> Iterator[Finding]:
    """Variables that nobody reads."""
    for name, remedy in settings.mistyped.items():
        yield Finding("settings", "warning", f"{name} is no setting, and does nothing", remedy)


def look(settings: Settings) -> Iterator[Finding]:
    """Limits, deliveries, and secrets on the way."""
    soft, hard, kept = settings.soft_time_limit, settings.task_time_limit, settings.result_expires
    yield Finding("settings", "ok", f"a run may last {soft} s, and its result waits {kept} s to be fetched")
    if kept < hard:
        yield Finding(
            "settings",
            "warning",
            f"CELERY_RESULT_EXPIRES ({kept} s) is below CELERY_TASK_TIME_LIMIT ({hard} s): a run that was "
            "submitted without waiting may be forgotten before it ends",
            "Raise them together: anyvar-step config --for 8h prints a set that fits",
        )
    if settings.task_reject_on_worker_lost:
        yield Finding(
            "settings",
            "warning",
            "CELERY_TASK_REJECT_ON_WORKER_LOST queues a run again whenever its process is killed: one that "
            "needs more memory than there is comes back for ever",
            "Set it to false: a step attempts a lost run again by itself, --resubmit times",
        )
    if settings.worker_prefetch_multiplier == 0:
        yield Finding(
            "settings",
            "warning",
            "CELERY_WORKER_PREFETCH_MULTIPLIER=0 lets the first worker reserve all runs of the queue",
            "Set it to 1",
        )
    if settings.work_dir_mode is not None and settings.work_dir_mode & 0o007:
        yield Finding(
            "settings",
            "warning",
            f"ANYVAR_STEP_WORK_DIR_MODE={settings.work_dir_mode:04o} lets every user of every host read what "
            "is being annotated",
            "Set it to 0660, and give step and workers a common group",
        )
    for variable, url in _urls(settings).items():
        yield from _on_the_way(variable, url)


def _urls(settings: Settings) -> dict[str, str]:
    """By variable; one where both are the same."""
    urls = {"CELERY_BROKER_URL": settings.broker_url}
    if settings.backend_url != settings.broker_url:
        urls["CELERY_BACKEND_URL"] = settings.backend_url
    return urls


def _on_the_way(variable: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme != "redis" or is_local(parts.hostname or "localhost"):
        return
    if parts.password is None:
        yield Finding(
            "settings",
            "warning",
            f"{masked(url)} asks for no password: whoever reaches it may queue, read and cancel runs",
            "Give Redis a password (requirepass); see docs/security.md",
        )
    else:
        yield Finding(
            "settings",
            "warning",
            f"{masked(url)} carries the password in plain text through the network",
            f"Use rediss:// in {variable}; see docs/security.md",
        )


def is_local(host: str) -> bool:
    """Whether the host is this one, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
