"""Signals that end a step: raised once while it works, held off while it cleans up and once OUT is there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from anyvar_step.errors import Interrupted

#: The interruption that was raised last; where something swallowed it, waiting raises it again.
_interruptions: list[Interrupted] = []
#: Set from the moment in which OUT is published: then the step ends well, whatever signal comes.
_settled = threading.Event()
#: Set while signals interrupt.
_active = threading.Event()


def raise_swallowed() -> None:
    """Raise again what was raised within something that catches all, such as a destructor."""
    if _interruptions:
        raise _interruptions[-1]


def settle() -> None:
    """What was asked for is about to be there: no signal interrupts the step any more."""
    if threading.current_thread() is threading.main_thread():
        _settled.set()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted once; a second one does not disturb the clean-up.

    Within another such block it is that one's signals: they stay as they are until that one ends.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if _settled.is_set():
            return
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        _interruptions.append(Interrupted(signum))
        raise _interruptions[-1]

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _settled.clear()
    if _active.is_set():
        yield
        return
    _active.set()
    before = {each: signal.getsignal(each) for each in signals}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(each, interrupt)
    try:
        yield
    finally:
        _active.clear()
        _interruptions.clear()
        for each, handler in before.items():
            signal.signal(each, handler)
