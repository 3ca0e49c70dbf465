"""What this process may use of its machine."""

from __future__ import annotations

import os


def processors() -> int:
    """Those set apart for it, where the system says so (macOS does not); else all of the host."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
