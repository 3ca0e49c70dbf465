"""Writes the parts of the pages that the program itself knows: settings, commands, exit codes.

    python docs/generate.py

Each part stands between the comments ``<!-- generated: NAME -->`` and ``<!-- end -->``; all else on a page is
written by hand. So is ``pip install 'anyvar-step[…]'``, but for where pip finds it (``INSTALL_FROM``).
It also writes config/anyvar.env.example. A test compares pages and file with what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from anyvar_step.cli import COMMANDS, cli, logs
from anyvar_step.cli.group import sections
from anyvar_step.settings import Settings

DOCS = Path(__file__).resolve().parent
PAGES = [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
EXAMPLE = DOCS.parent / "config" / "anyvar.env.example"

#: What the pages have pip install: the clone, in the directory that holds it as ``anyvar-step``, until an
#: index has it. ``make release`` makes it "anyvar-step".
INSTALL_FROM = "./anyvar-step"

#: Headings of the settings, by the beginning of their names.
FAMILIES = {
    "AnyVar's": r"(ANYVAR|SEQREPO)_(?!STEP_)",
    "Celery's": r"CELERY_",
    "Our own": r"ANYVAR_STEP_",
}

#: How ``tests/pages.py`` is to treat the examples of a command.
MARKS = {
    "sweep": "tested by tests/integration/runs/test_sweep.py: takes a Redis that has run for a minute",
    "ingest": "tested by tests/integration/worker/test_registration.py: takes workers with a store",
    "check": "tested by tests/integration/test_check.py: its exit code tells of the site",
    "worker": "runs until stopped",
    "serve": "runs until stopped",
    "local": "tested by tests/integration/test_embedded.py: takes a workflow engine with a workflow",
}


def settings() -> str:
    """A table of settings for each family of names."""
    parts = []
    for title, pattern in FAMILIES.items():
        rows = [row for name, row in _settings() if re.match(pattern, name)]
        parts += [f"### {title}\n", "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)]
    return "\n".join(parts)


def _settings() -> Iterator[tuple[str, str]]:
    for field in Settings.model_fields.values():
        name, extra = str(field.alias), field.json_schema_extra
        assert isinstance(extra, dict)
        notes = [str(field.description)]
        if extra["celery"]:
            notes.append(f"Celery's `{extra['celery']}`")
        if extra["secret"]:
            notes.append(f"or in a file: `{name}_FILE`")
        shown = _default(field.default)
        yield name, f"| `{name}` | {f'`{shown}`' if shown else ''} | {'; '.join(notes)} |\n"


def example(text: str) -> str:
    """config/anyvar.env.example: its head, then each setting with its meaning and default, commented out."""
    fields = Settings.model_fields.values()
    lines = [f"# {field.description}\n#{field.alias}={_default(field.default)}\n" for field in fields]
    return text.partition("\n\n")[0] + "\n\n" + "".join(lines)


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) if value else ""


def commands() -> str:
    """A section for each command: what it does, how it is called, its options."""
    return "\n".join(_command(name) for name in COMMANDS)


def _command(name: str) -> str:
    root = click.Context(cli, info_name="anyvar-step")
    command = cli.get_command(root, name)
    assert command is not None
    context = click.Context(command, parent=root, info_name=name)
    said = re.sub(r"[ \n]*\n *\n *", "\n\n", command.help or "").strip()
    examples, _, more = (command.epilog or "").partition("Examples:\n")[2].partition("\n\n\b\n")
    return (
        f"### {name}\n\n{_plain(said)}\n\n```text\n{command.get_usage(context).partition(': ')[2]}\n```\n\n"
        + "".join(
            _options(title, rows) for title, rows in sections(command, context).items() if title != logs.TITLE
        )
        + (f"<!-- {MARKS[name]} -->\n" if name in MARKS else "")
        + "```bash\n"
        + re.sub(r"^  ", "", examples, flags=re.MULTILINE).strip()
        + "\n```\n"
        + (f"\n```text\n{more.strip()}\n```\n" if more else "")
    )


def messages() -> str:
    """The options that every command has."""
    context = click.Context(cli, info_name="anyvar-step")
    return _options(
        logs.TITLE, [row for option in logs.options() if (row := option.get_help_record(context))]
    )


def _options(title: str, rows: list[tuple[str, str]]) -> str:
    """A table of options; a heading over it where they are not the command's own."""
    head = "option" if title == "Options" else title.lower()
    body = "".join(f"| {_code(names)} | {_plain(text)} |\n" for names, text in rows if "--help" not in names)
    return f"| {head} | meaning |\n|---|---|\n{body}\n" if body else ""


def _code(text: str) -> str:
    """A code span that a table's cell can hold."""
    return f"`{text}`" if "|" not in text else f"<code>{text.replace('|', '&#124;')}</code>"


def _plain(text: str) -> str:
    """Help text as Markdown: one line a paragraph, and nothing that a table would take for its own."""
    return re.sub(r"(?<!\n) *\n *(?!\n)", " ", text).replace("|", "\\|").replace("  [", " [")


def exit_codes() -> str:
    """The README's table."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## Exit codes\n\n((?:\|.*\n)+)", readme, re.MULTILINE)
    assert found, "README.md has no table of exit codes"
    return found[1]


PARTS = {"settings": settings, "commands": commands, "messages": messages, "exit codes": exit_codes}


def renewed(page: str) -> str:
    """The page with its generated parts, and its installations, as they ought to be."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{PARTS[match[2]]().strip()}\n\n{match[3]}"

    page = re.sub(r"(pip install ')(?:\./)?anyvar-step\b", rf"\g<1>{INSTALL_FROM}", page)
    return re.sub(r"(<!-- generated: (.+?) -->)\n.*?(<!-- end -->)", replace, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in (*PAGES, EXAMPLE):
        before = path.read_text(encoding="utf-8")
        if (after := example(before) if path == EXAMPLE else renewed(before)) != before:
            path.write_text(after, encoding="utf-8")
            print(f"wrote {path}")
