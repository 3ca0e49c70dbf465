"""Imported by Python as it starts, where this folder is on PYTHONPATH: a host's clock that is wrong.

CLOCK_SKEW is in seconds. Only the clock's face is wrong, not its pace: monotonic clocks and sleeps are right.
(libfaketime, measured here, makes time.sleep fail with EINVAL, and so tests something else.)
"""

import os
import time

_told, _told_ns, _skew = time.time, time.time_ns, int(os.environ["CLOCK_SKEW"])
time.time = lambda: _told() + _skew
time.time_ns = lambda: _told_ns() + _skew * 10**9
