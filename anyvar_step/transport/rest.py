"""What the HTTP transport and our web API say to each other beyond AnyVar's REST contract (CONTRACTS.md §3).

Each side works without the other's: AnyVar's web API ignores what our step adds, and AnyVar's clients what
our web API adds.
"""

from __future__ import annotations

import re

#: Request header: who waits for the run. Steps with the same input share one; the last one's DELETE counts.
HOLDER = "Anyvar-Step-Holder"
#: Answer header of a HEAD: the digest of the run's content, so that a caller's own run id names one input.
DIGEST = "Anyvar-Step-Digest"
#: Field of a failure answer beside ``error`` and ``error_code``: the exception's name, for the exit code.
ERROR_CLASS = "error_class"
#: Fields of a 202 answer beside AnyVar's, whose ``status`` is always PENDING: Celery's state, and progress.
STATE, PROGRESS = "state", "progress"
#: Seconds between two looks at a run, as AnyVar's web API asks for in ``Retry-After``.
RETRY_AFTER = 2

_HOLDER = re.compile(r"[A-Za-z0-9]{1,64}")


def is_holder(text: str) -> bool:
    """Whether the text can name somebody who waits for a run."""
    return _HOLDER.fullmatch(text) is not None
