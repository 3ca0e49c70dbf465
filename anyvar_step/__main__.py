"""``anyvar-step`` and ``python -m anyvar_step``: run a command; a failure is one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import NoReturn

import click

from anyvar_step.cli import cli
from anyvar_step.cli.group import BROKEN_PIPE
from anyvar_step.cli.logs import say_failure, say_wrong_usage
from anyvar_step.errors import StepError


def main() -> NoReturn:
    """Run the command line. A failure is one line on standard error, with ``--debug`` after its traceback."""
    debug = "--debug" in sys.argv[1:]
    try:
        result = cli.main(standalone_mode=False, prog_name="anyvar-step")
        code = result if isinstance(result, int) else 0  # click returns the exit code of a context
    except StepError as error:
        if debug:
            traceback.print_exc()
        say_failure(str(error))
        code = error.exit_code
    except click.ClickException as error:
        say_wrong_usage(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say_failure("interrupted")
        code = 130
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        say_failure(f"unexpected {type(error).__name__}: {error}. Please report what --debug shows")
        code = StepError.exit_code
    if code == BROKEN_PIPE:  # Python flushes standard output as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if code == 0:  # all is done: a signal while Python ends must not change the exit code
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
