"""The interruption of a step: signals raise once while it works, and its runs are cancelled.

Signals are ignored while the step cleans up and publishes OUT.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from anyvar_step.client.transport import Transport
from anyvar_step.errors import FileTrouble, Interrupted, StepError, Unavailable

_logger = logging.getLogger(__name__)

#: Seconds after which a signal that came within a destructor is sent again.
AFTER_DESTRUCTOR = 0.01
#: The interruption that was raised last: ``raise_swallowed`` raises it again.
_interruptions: list[Interrupted] = []
#: Set once OUT is about to be published: from then on signals are ignored.
_settled = threading.Event()
#: Set while signals interrupt.
_active = threading.Event()


def raise_swallowed() -> None:
    """Raise an interruption again that was lost where Python drops exceptions, as in a weakref's callback."""
    if _interruptions:
        raise _interruptions[-1]


def settle() -> None:
    """Ignore signals from now on: OUT is about to be published."""
    if threading.current_thread() is threading.main_thread():
        _settled.set()


def _in_destructor(frame: FrameType | None) -> bool:
    """Whether a ``__del__`` is at work: Python prints and drops what is raised there."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted once in this block; a second one is ignored.

    Within another such block, and in other threads, this block changes nothing.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if _settled.is_set():
            return
        if _in_destructor(frame):
            threading.Timer(AFTER_DESTRUCTOR, os.kill, (os.getpid(), signum)).start()
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


@contextmanager
def cancel_on_failure(transport: Transport) -> Iterator[None]:
    """Cancel all runs that the transport holds when the block fails: no step would collect them.

    After FileTrouble they stay: their results are whole, and the next call of the same step collects them.
    """
    try:
        yield
    except FileTrouble as trouble:
        _logger.debug("the runs stay for the next call: %s", trouble)
        raise
    except BaseException as error:
        # Where Redis is away, the step's own error says so.
        level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
        if _cancel_all(transport, level) and isinstance(error, Interrupted):
            error.revoked()
        raise


def _cancel_all(transport: Transport, level: int) -> bool:
    """Cancel the held runs; whether there were any and all were cancelled. The first Unavailable ends it.

    ``level`` is the log level for that.
    """
    tickets, cancelled = list(transport.held.values()), 0
    for number, ticket in enumerate(tickets, 1):
        try:
            cancelled += transport.cancel(ticket)
        except Unavailable as trouble:
            others = f" and {left} others" if (left := len(tickets) - number) else ""
            _logger.log(level, "run %s%s could not be cancelled: %s", ticket.run_id, others, trouble)
            break
        except StepError as trouble:
            _logger.warning("run %s could not be cancelled: %s", ticket.run_id, trouble)
    return 0 < cancelled == len(tickets)
