"""Signals that end a step: raised once while it works, ignored while it cleans up and publishes OUT."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from anyvar_step.errors import Interrupted

#: The interruption that was raised last: ``raise_swallowed`` raises it again.
_interruptions: list[Interrupted] = []
#: Set once OUT is about to be published: from then on signals are ignored.
_settled = threading.Event()
#: Set while signals interrupt.
_active = threading.Event()


def raise_swallowed() -> None:
    """Raise an interruption again that was lost in code that catches everything, such as a destructor."""
    if _interruptions:
        raise _interruptions[-1]


def settle() -> None:
    """Ignore signals from now on: OUT is about to be published."""
    if threading.current_thread() is threading.main_thread():
        _settled.set()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted once in this block; a second one is ignored.

    Within another such block, and in other threads, this block changes nothing.
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
