"""The end of a run's registration: committed with the run, left to the writers, or given up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from anyvar_step.models import Registered
from anyvar_step.store.registrar import Registration


@contextlib.contextmanager
def registering(
    registration: Registration | None, *, later: bool, tick: Callable[[], None]
) -> Iterator[None]:
    """When the block ends well, wait until all its alleles are committed, or do not (``later``).

    ``tick`` is called while waiting and may raise. When the block, or the waiting, ends with an exception,
    what has not been written yet is given up.
    """
    if registration is None:
        yield
        return
    try:
        yield
        if later:
            registration.detach(tick)
        else:
            registration.finish(tick)
    except BaseException:
        registration.drop()
        raise


def registered(registration: Registration | None, *, later: bool, conflicts: int = 0) -> Registered | None:
    """What the report says of it; how many alleles were new is not known where they are written later."""
    if registration is None:
        return None
    added = None if later else registration.added
    return Registered(alleles=registration.alleles, added=added, conflicts=conflicts)
