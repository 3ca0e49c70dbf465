"""The habits of a command line: help on one screen, corrections, completion, versions, plain output."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support import ROOT, Site, until

from anyvar_step.cli import COMMANDS, cli


def anyvar_step(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``anyvar-step`` with these arguments on a terminal of 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "anyvar_step", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_fits_a_screen_and_has_examples_and_every_exit_code() -> None:
    shown = anyvar_step("--help").stdout
    lines = shown.splitlines()
    assert len(lines) <= 37
    assert max(map(len, lines)) <= 80
    assert "Examples:" in shown
    assert "Exit codes" in shown
    assert "..." not in shown.partition("Commands:")[2], "a command's first sentence is too long for its line"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_how_to_call_it(name: str) -> None:
    shown = anyvar_step(name, "--help").stdout
    assert len(shown.splitlines()) <= 45, "it does not fit a screen"
    examples = shown.partition("Examples:\n")[2].splitlines()
    assert examples
    assert any(f"anyvar-step {name}" in line for line in examples)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", ["annotate", "ingest", "submit", "collect"])
def test_the_help_of_a_command_with_many_options_names_all_and_help_all_explains_them(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    brief, full = anyvar_step(name, "--help").stdout, anyvar_step(name, "--help-all").stdout
    for param in command.params:
        if isinstance(param, click.Option):
            assert re.search(rf"{param.opts[-1]}[, \n]", brief)
            assert re.search(rf"^  (-\w, )?{param.opts[-1]} ", full, re.MULTILINE)
    assert "Examples:" in full
    assert "source" not in brief


def options_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return {option for param in command.params for option in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_name_options_that_exist(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for named, arguments in re.findall(r"anyvar-step (\w+)((?: (?!-- )[^|&;>\s]+)*)", command.epilog or ""):
        used = {word for word in arguments.split() if word.startswith("-") and word != "-"}
        assert used <= options_of(named)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["anotate", "in.vcf"], "annotate"),
        (["colect"], "collect"),
        (["annotate", "in.vcf", "--ouput", "x"], "--output"),
        (["worker", "--concurency", "2"], "--concurrency"),
    ],
)
def test_a_mistyped_command_or_option_is_refused_with_the_one_that_was_meant(
    typed: list[str], meant: str
) -> None:
    done = anyvar_step(*typed)
    assert done.returncode == 2
    assert f"'{meant}'" in done.stderr.replace("--ouput", "") or f" {meant}" in done.stderr


def test_what_resembles_nothing_is_refused_without_a_guess() -> None:
    done = anyvar_step("zzzzz")
    assert done.returncode == 2
    assert done.stderr.endswith("No such command 'zzzzz'.\n")


def test_the_version_names_what_decides_the_results() -> None:
    import celery
    import pysam

    from anyvar_step import VRS_VERSION, __version__

    shown = anyvar_step("--version").stdout
    assert shown.count("\n") == 1, "workflows take the second word of the line"
    assert shown.split()[:2] == ["anyvar-step", __version__]
    for part in (f"VRS {VRS_VERSION}", f"Celery {celery.__version__}", pysam.version.__htslib_version__):
        assert part in shown


def test_completion_in_bash(tmp_path: Path) -> None:
    """As docs/tutorial.md says it is switched on; the function is called as readline would."""
    program = tmp_path / "anyvar-step"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m anyvar_step "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(_ANYVAR_STEP_COMPLETE=bash_source anyvar-step)"
        compopt() { :; }  # only readline itself may call it
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _anyvar_step_completion anyvar-step
                echo "${COMPREPLY[@]}"; }
        ask anyvar-step wo
        ask anyvar-step annotate --comp
        ask anyvar-step annotate --via ""
        ask anyvar-step annotate --log
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n") == [
        "worker",
        "--compress-level",
        "celery http",
        "--log-format",
        "",
    ], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_completion_script(shell: str) -> None:
    done = anyvar_step(_ANYVAR_STEP_COMPLETE=f"{shell}_source")
    assert done.returncode == 0, done.stderr
    assert f"_ANYVAR_STEP_COMPLETE={shell}_complete" in done.stdout


def on_a_terminal(site: Site, *arguments: str, ready: str, **environ: str) -> str:
    """What ``anyvar-step`` says on a terminal until ``ready`` is among it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "anyvar_step", *arguments],
            {**site.environ, "TERM": "xterm-256color", **environ},
        )
    said = b""
    try:

        def heard() -> bool:
            nonlocal said
            with contextlib.suppress(OSError):
                said += os.read(terminal, 65536)
            return ready.encode() in said

        until(heard, what=ready)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return said.decode()


def test_no_color_keeps_escape_codes_off_a_terminal(site: Site) -> None:
    arguments = ("worker", "--concurrency", "1")
    assert "\x1b[" in on_a_terminal(site, *arguments, ready=" ready.")
    assert "\x1b[" not in on_a_terminal(site, *arguments, ready=" ready.", NO_COLOR="1")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("annotate - -o out.vcf <&-", "IN is standard input, and that is closed"),
        ("submit - <&-", "IN is standard input, and that is closed"),
        ("ingest - <&-", "IN is standard input, and that is closed"),
        ("annotate in.vcf -o - >&-", "OUT is standard output, and that is closed"),
    ],
)
def test_a_closed_standard_stream_is_wrong_usage(tmp_path: Path, command: str, words: str) -> None:
    """As cron and some schedulers start what they run."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m anyvar_step {command}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_no_redis_there_is_said_in_one_sentence(tmp_path: Path, vcf: Path) -> None:
    done = anyvar_step(
        *("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"), "--outage", "0"),
        *("--broker-url", "redis://localhost:1/0", "--work-dir", str(tmp_path)),
    )
    assert done.returncode == 69
    assert "Connection refused. Start it" in done.stderr
