from __future__ import annotations

import signal
import time

import pytest

from anyvar_step.client.cancellation import interruptible
from anyvar_step.errors import Interrupted


class Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def work() -> None:
    Finalized()
    time.sleep(30)  # the signal ends it


def test_a_signal_within_a_destructor_interrupts_what_comes_after_it() -> None:
    """Python drops what a destructor raises: a step went on, and printed a traceback."""
    with pytest.raises(Interrupted), interruptible():
        work()
