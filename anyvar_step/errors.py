"""The one tree of failures: each class has its exit code and AnyVar error code.

StepError                     70   the run failed (RUN_FAILURE)
├── InvalidInput              65   the input is not a VCF, is truncated, or its reference is not ours
├── InputNotFound             66   the input does not exist or cannot be read
├── Unavailable               69   broker, web API or workers not reachable
├── FileTrouble               74   work dir or output I/O: disk full, short or corrupt file
│   └── FileSpoiled           74   a run's file is not as it was written: it must be made anew
├── RunLost                   75   the worker was lost (WORKER_LOST_ERROR), or the run vanished
├── AccessRefused             77   permission or token refused
├── ConfigurationError        78   a setting is wrong, or two of them contradict each other
├── TimeLimitReached         124   TIME_LIMIT_EXCEEDED, or --timeout passed
├── RunCancelled             130   somebody cancelled the run
└── Interrupted          130/143   a signal reached the step

Wrong usage is click's own exit code 2. The numbers are those of sysexits.h where one fits.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from typing import ClassVar

#: Exit codes after which the same call may well succeed.
RETRYABLE = frozenset({69, 74, 75})


class StepError(Exception):
    """The run failed; the base of all failures a user may see.

    ``what`` says what happened and where, ``remedy`` what to do about it; ``str()`` is one line.
    """

    exit_code: ClassVar[int] = 70
    error_code: ClassVar[str] = "RUN_FAILURE"

    def __init__(self, what: str, remedy: str = "") -> None:
        # One argument, the whole line: Celery stores an exception's arguments, and AnyVar shows them.
        super().__init__(f"{what.removesuffix('.')}. {remedy}" if remedy else what)
        self.what, self.remedy = what, remedy


class InvalidInput(StepError):
    """The input is not a VCF, is truncated, or its reference is not ours."""

    exit_code = 65


class InputNotFound(StepError):
    """The input does not exist or cannot be read."""

    exit_code = 66


class Unavailable(StepError):
    """Broker, web API or workers cannot be reached, or no worker took the run in time."""

    exit_code = 69


class FileTrouble(StepError):
    """Reading or writing the work dir or the output failed: disk full, short or corrupt file."""

    exit_code = 74


class CorruptFile(FileTrouble):
    """A file of a run is not, or no longer, as it was written: the run must be done again."""


class RunLost(StepError):
    """The worker was lost, or the run vanished from broker and backend."""

    exit_code = 75
    error_code = "WORKER_LOST_ERROR"


class AccessRefused(StepError):
    """A permission or a token was refused."""

    exit_code = 77


class ConfigurationError(StepError):
    """A setting is wrong, or two settings contradict each other."""

    exit_code = 78


class TimeLimitReached(StepError):
    """The run reached its time limit, or the step its ``--timeout``."""

    exit_code = 124
    error_code = "TIME_LIMIT_EXCEEDED"


class RunCancelled(StepError):
    """Somebody cancelled the run."""

    exit_code = 130
    error_code = "RUN_CANCELLED"


class Interrupted(StepError):
    """A signal reached the step; ``revoked`` says that its run has been cancelled."""

    error_code = "RUN_CANCELLED"

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum
        self.exit_code = 128 + signum  # type: ignore[misc]  # the one code that depends on the occasion

    def revoked(self) -> None:
        """Say that nothing is left of the run."""
        self.remedy = "The run was revoked"
        self.args = (f"{self.what}. {self.remedy}",)


def named(name: str) -> type[StepError]:
    """The error class of that name, as it stands in a Celery result's ``exc_type``; else StepError.

    Interrupted is never a run's: it tells of the signal that a step got.
    """
    return {kind.__name__: kind for kind in _below(StepError) if kind is not Interrupted}.get(name, StepError)


def _below(kind: type[StepError]) -> Iterator[type[StepError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def from_os(error: OSError, doing: str, remedy: str = "") -> StepError:
    """A file system failure in the user's words: ``doing`` names the act and the path."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessRefused(f"{doing}: {reason}", remedy or "Check the owner and mode of the path")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileTrouble(f"{doing}: {reason}", remedy or "Make room, then run it again")
    return FileTrouble(f"{doing}: {reason}", remedy)
