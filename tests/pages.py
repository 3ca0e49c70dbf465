"""The commands of README and docs, typed as they stand there, block by block in one shell's state.

A page's bash blocks run in their order; what one exports, the next one has. A comment before a block:

``<!-- tested by PATH: REASON -->``
    It is not typed here, since it takes what that test has. Under a page's title: none of its blocks is.
``<!-- runs until stopped -->``
    Each line is a server: waited for until it serves, stopped before the next one and at the page's end.
``<!-- printed -->``
    The text block is what the page's commands printed; "…" stands for anything.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support import ROOT, until

TESTED_BY = re.compile(r"tested by (?P<path>\S+): (?P<reason>.+)")
#: What a worker, or a web API, has said once it serves; the API's two lines come in either order.
SERVES = re.compile(r" ready\.|startup complete.*running on|running on.*startup complete", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and the comment before it."""

    page: Path
    line: int
    language: str
    text: str
    comment: str
    page_comment: str

    @property
    def elsewhere(self) -> re.Match[str] | None:
        """Path and reason where another test types the block."""
        return TESTED_BY.match(self.comment) or TESTED_BY.match(self.page_comment)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(
        r"^(?:<!-- (?P<comment>[^\n]*) -->\n+)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    whole = re.match(r"# .*\n\n<!-- (tested by .*) -->\n", text)
    return [
        Block(
            page,
            text.count("\n", 0, match.start("text")),
            match["language"],
            match["text"],
            match["comment"] or "",
            whole[1] if whole else "",
        )
        for match in found
    ]


@dataclass
class Reader:
    """Somebody who types a page's commands in a folder of theirs.

    ``names`` are the page's for what is there; ``servers`` is the environment of what runs until stopped.
    """

    folder: Path
    environ: dict[str, str]
    servers: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    printed: str = ""

    def __post_init__(self) -> None:
        self._state = self.folder.parent / "state.sh"
        self._state.write_text("")

    def script(self, commands: str) -> str:
        """The commands with what goes before and comes after them; the state is kept for the next block."""
        for name, here in self.names.items():
            commands = commands.replace(name, here)
        keep = f'{{ export -p; printf "cd %q\\n" "$PWD"; }} > {shlex.quote(str(self._state))}'
        return f"set -aeu\n. {shlex.quote(str(self._state))}\n{commands}\n{keep}\n"

    def type(self, block: Block) -> None:
        """Run a block to its end; it must succeed."""
        done = subprocess.run(
            ["bash", "-c", self.script(block.text)],
            env=self.environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{block.text}{done.stdout}"
        self.printed += done.stdout

    @contextlib.contextmanager
    def server(self, command: str) -> Iterator[str]:
        """Run a server, which has begun to serve when the block starts; what it said until then."""
        log = self.folder.parent / f"server-{abs(hash(command))}.log"
        # A free port instead of the one that the page names or the program's own.
        command = re.sub(r"anyvar-step serve(.*?) --port \d+", r"anyvar-step serve\1", command)
        command = command.replace("anyvar-step serve", "anyvar-step serve --port 0")
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "-c", self.script(command)],
                env=self.servers,
                cwd=self.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            until(lambda: SERVES.search(log.read_text()) or process.poll() is not None, 60, command)
            assert process.poll() is None, f"{command}\n{log.read_text()}"
            yield log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def read(self, page: Path) -> None:
        """Type a page from its beginning to its end."""
        with contextlib.ExitStack() as servers:
            for block in blocks(page):
                if block.comment == "printed":
                    self.compare(block)
                elif block.language == "bash" and block.comment == "runs until stopped":
                    for command in block.text.splitlines():
                        servers.close()
                        self._knows(servers.enter_context(self.server(command)))
                elif block.language == "bash" and not TESTED_BY.match(block.comment):
                    self.type(block)

    def _knows(self, said: str) -> None:
        """Where a web API says that it serves, the page's address for it is that one."""
        if found := re.search(r"running on (http://\S+)", said):
            self.names["http://localhost:8000"] = found[1]

    def compare(self, block: Block) -> None:
        """Each line of the block was printed by the page's commands so far."""
        lines = self.printed.splitlines()
        for line in block.text.splitlines():
            pattern = re.sub(r"([\[*?])", r"[\1]", line).replace("…", "*")
            assert any(fnmatch.fnmatchcase(printed, pattern) for printed in lines), (
                f"{block}: not printed: {line}\n{self.printed}"
            )
