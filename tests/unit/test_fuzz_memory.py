"""The fuzz tests of what others send, each once more in a process that may map 400 MB: none needs more.

A case for which the memory does not suffice ends in a MemoryError, which is none of the program's failures.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import CASES
from support import ROOT

pytestmark = pytest.mark.slow

LIMIT = 400 << 20
TESTS = {
    "upload": "test_fuzz_messages.py::test_a_changed_request_gets_an_answer",
    "message": "test_fuzz_messages.py::test_changed_messages_on_the_broker_hide_no_other_run",
    "task": "test_fuzz_messages.py::test_a_task_with_changed_arguments_is_done_as_asked_or_refused",
    "state": "test_fuzz_messages.py::test_a_changed_state_is_a_status_or_a_lost_run",
    "manifest": "test_fuzz_files.py::test_a_changed_manifest_is_read_or_refused",
    "ticket": "test_fuzz_files.py::test_a_changed_ticket_is_read_or_refused_and_leads_nowhere_else",
}


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


@pytest.mark.parametrize("name", TESTS)
def test_what_others_send_needs_no_more_than_400_mb(name: str, tmp_path: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--basetemp={tmp_path / 'inner'}"]
    environ = {**os.environ, "MALLOC_ARENA_MAX": "1", "FUZZ_CASES": str(CASES)}  # an arena maps 64 MB
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(ROOT / "tests" / "unit" / TESTS[name])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environ,
        preexec_fn=limited,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
