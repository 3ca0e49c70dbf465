"""On a worker's PYTHONPATH: the soft time limit's signal meets its processes where what is raised is lost.

It comes in each garbage collection, and nowhere else; Python drops what a collection's callback raises.
"""

import gc
import os
import signal
import threading

_PARENT = os.getpid()


def strike(phase: str, info: dict[str, int]) -> None:
    """Send the signal, once its handler is set in a forked process."""
    here = os.getpid() != _PARENT and threading.current_thread() is threading.main_thread()
    if here and callable(signal.getsignal(signal.SIGUSR1)):
        signal.raise_signal(signal.SIGUSR1)


gc.callbacks.append(strike)
gc.set_threshold(10)  # often: a run makes next to no garbage of its own
