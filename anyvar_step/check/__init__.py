"""Looking at a deployment before the first run: each part of it as findings, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from anyvar_step.check import limits, servers, storage, workers
from anyvar_step.check.findings import Finding
from anyvar_step.settings import Settings

__all__ = ["Finding", "look"]


def look(settings: Settings, assemblies: tuple[str, ...] = ()) -> Iterator[Finding]:
    """What is right and what is wrong with settings, Redis, work dir and workers, as seen from this host.

    ``assemblies`` are those that the workers must know. Nothing is raised: what fails is a finding.
    """
    yield from limits.look(settings)
    broken = False
    for finding in servers.look(settings):
        broken |= finding.exit_code in (69, 77)  # out of reach; what is set wrong keeps nobody from asking
        yield finding
    for finding in storage.look(settings):
        broken |= finding.exit_code != 0
        yield finding
    if broken:
        yield Finding("workers", "note", "not asked: first mend what is wrong above")
    else:
        yield from workers.look(settings, assemblies)
