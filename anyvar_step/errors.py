"""The one tree of failures, each with its exit code and AnyVar error code, and the one table to foreign ones.

StepError                     70   the run failed (RUN_FAILURE)
├── InvalidUsage               2   an option has a value that cannot be, as only the input shows
├── InvalidInput              65   the input is not a VCF, is truncated, or its reference is another one
├── InputNotFound             66   the input does not exist or cannot be read
├── Unavailable               69   Redis, web API or workers cannot be reached
│   └── NoWorker              69   no worker has served the queue for --queue-timeout
├── FileTrouble               74   I/O of the work dir or the output failed: disk full, short file
│   └── CorruptFile           74   a file of a run differs from what was written: the run must be repeated
├── RunLost                   75   the worker was lost (WORKER_LOST_ERROR), or the run vanished
├── AccessRefused             77   a permission or a token was refused
├── ConfigurationError        78   a setting is wrong, or two settings contradict each other
├── TimeLimitReached         124   the run reached its time limit (TIME_LIMIT_EXCEEDED), or --timeout passed
├── RunCancelled             130   the run was cancelled (RUN_CANCELLED)
└── Interrupted          130/143   the step got a signal

All other wrong usage is click's, with the same exit code 2. The other numbers are those of sysexits.h where
one fits. A failure crosses process borders as a name (Celery's ``exc_type``), as an error code (AnyVar's web
API), as an HTTP status code or as an exit code; ``from_name``, ``from_http_status`` and ``from_exit_code``
lead back to its class.
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
    """The run failed; the base of all failures that a user may see.

    ``what`` says what happened and where, ``remedy`` what to do about it; ``str()`` is both in one line.
    """

    exit_code: ClassVar[int] = 70
    error_code: ClassVar[str] = "RUN_FAILURE"

    def __init__(self, what: str, remedy: str = "") -> None:
        # One argument, the whole line: Celery stores the arguments, and AnyVar's web API shows them.
        super().__init__(f"{what.removesuffix('.')}. {remedy}" if remedy else what)
        self.what, self.remedy = what, remedy


class InvalidUsage(StepError):
    """An option has a value that cannot be, as only the input shows."""

    exit_code = 2


class InvalidInput(StepError):
    """The input is not a VCF, is truncated, or its reference is another one.

    ``too_large`` where it exceeds a bound that protects the memory.
    """

    exit_code = 65
    too_large = False


class InputNotFound(StepError):
    """The input does not exist or cannot be read."""

    exit_code = 66


class Unavailable(StepError):
    """Redis, web API or workers cannot be reached, or no worker took the run in time."""

    exit_code = 69


class NoWorker(Unavailable):
    """No worker has served the queue for as long as the step waits for one."""


class FileTrouble(StepError):
    """Reading or writing the work dir or the output failed: disk full, short or corrupt file."""

    exit_code = 74


class CorruptFile(FileTrouble):
    """A file of a run differs from what was written: the run must be repeated."""

    #: What Celery stores as ``exc_type``: a step of version 1.1.0 knows the failure by this name only.
    __qualname__ = "FileSpoiled"


FileSpoiled = CorruptFile  # pickle looks a class up by its __qualname__


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
    """The run was cancelled."""

    exit_code = 130
    error_code = "RUN_CANCELLED"


class Interrupted(StepError):
    """The step got a signal; ``revoked`` adds that its run has been cancelled."""

    error_code = "RUN_CANCELLED"

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum
        self.exit_code = 128 + signum  # type: ignore[misc]  # the only code that depends on the instance

    def revoked(self) -> None:
        """Add to the message that the run was cancelled."""
        self.remedy = "The run was revoked"
        self.args = (f"{self.what}. {self.remedy}",)


#: Exceptions of others, by the name that Celery stores as ``exc_type``. Of several for one failure, the first
#: is the exception behind its error code.
FOREIGN: dict[str, type[StepError]] = {
    "TimeLimitExceeded": TimeLimitReached,  # billiard, at the hard limit
    "SoftTimeLimitExceeded": TimeLimitReached,  # billiard, at the soft limit
    "WorkerLostError": RunLost,  # billiard
    "FileSpoiled": CorruptFile,  # anyvar-step 1.1.0
}


def from_name(name: str) -> type[StepError]:
    """The failure for the name of an exception, as in a Celery result's ``exc_type``; StepError if unknown.

    Never Interrupted: that is a failure of the step, not of a run.
    """
    return FOREIGN.get(name) or {kind.__name__: kind for kind in kinds()}.get(name, StepError)


def name_from_code(error_code: str) -> str:
    """The name of the exception behind an error code, all that AnyVar's web API says; "" for RUN_FAILURE."""
    known = {kind.error_code: name for name, kind in reversed(FOREIGN.items())}
    return "" if error_code == StepError.error_code else known.get(error_code, "")


def from_exit_code(code: int, default: type[StepError]) -> type[StepError]:
    """The failure for the exit code of another ``anyvar-step`` process; ``default`` if there is none."""
    return next((kind for kind in kinds() if kind.exit_code == code), default)


def from_http_status(code: int) -> type[StepError]:
    """The failure for a status code of 300 or more that is not the status of a run."""
    if code in (401, 403):
        return AccessRefused
    if code == 413:
        return InvalidInput
    return Unavailable if code == 429 or code >= 500 else ConfigurationError


def kinds(base: type[StepError] = StepError) -> Iterator[type[StepError]]:
    """All failures below ``base`` that a run can end with, each before those below it."""
    for kind in base.__subclasses__():
        if kind is not Interrupted:
            yield kind
            yield from kinds(kind)


def from_os(error: OSError, doing: str, remedy: str = "") -> StepError:
    """The failure for an OSError; ``doing`` names the act and the path, as in "cannot write /x/out.vcf"."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessRefused(f"{doing}: {reason}", remedy or "Check the owner and mode of the path")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileTrouble(f"{doing}: {reason}", remedy or "Make room, then run it again")
    return FileTrouble(f"{doing}: {reason}", remedy)
