"""Writes a version into every file that has it, and dates the changelog; the package's own is the source.

    python scripts/release.py 1.2.3

``make release VERSION=1.2.3`` calls it, and then writes the pages anew, which install from the index from the
first release on (``INSTALL_FROM`` in docs/generate.py).
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "anyvar_step/__init__.py"

#: A semantic version, as PEP 440 writes it.
VERSION = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"

#: Where the version stands: files, and the text before it.
PLACES = {
    SOURCE: '^__version__ = "',
    "CITATION.cff": "^version: ",
    "docs/formats.md": "##anyvar_stepVersion=",
    "recipes/anyvar-step/meta.yaml": 'set version = "',
    "docs/nextflow.md": "anyvar-step:",
    "workflow/nextflow/nextflow.config": "^ +version += '",
    "workflow/nextflow/conf/early.config": "'anyvar-step:",
    "workflow/nextflow/modules/**/main.nf": "anyvar-step:",
    "workflow/nextflow/modules/**/*.snap": r'"anyvar-step",\s+"',
    "workflow/**/*.y*ml": r"^ +- anyvar-step\[local\]==",
}


def places() -> Iterator[tuple[Path, str]]:
    """Each file that has the version, and the pattern of the text before it."""
    for pattern, before in PLACES.items():
        for path in sorted(ROOT.glob(pattern)):
            if re.search(before, path.read_text(encoding="utf-8"), re.MULTILINE):
                yield path, before


def versions() -> dict[str, list[str]]:
    """The versions that stand in each file, by its path from the root."""
    return {
        str(path.relative_to(ROOT)): re.findall(
            f"{before}({VERSION})", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        for path, before in places()
    }


def dated(changelog: str, version: str, day: str) -> str:
    """The changelog with what is unreleased under the version; unchanged where it has that version."""
    if f"\n## [{version}] - " in changelog:
        return changelog
    return changelog.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{version}] - {day}\n", 1)


def repository() -> str | None:
    """The address of the repository's page, from the remote ``origin``; None where the clone has none."""
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.fullmatch(r"(?:https://|ssh://git@|git@)([\w.-]+)[/:]([\w./-]+?)(?:\.git)?\n", done.stdout)
    return f"https://{found[1]}/{found[2]}" if found else None


def with_urls(pyproject: str, page: str | None) -> str:
    """pyproject.toml with the repository's addresses first under [project.urls]; unchanged without a page."""
    if page is None:
        return pyproject
    ours = {"Source": page, "Issues": f"{page}/issues", "Changelog": f"{page}/blob/main/CHANGELOG.md"}
    others = re.sub(rf"^(?:{'|'.join(ours)}) = .*\n", "", pyproject, flags=re.MULTILINE)
    lines = "".join(f'{name} = "{address}"\n' for name, address in ours.items())
    return others.replace("[project.urls]\n", f"[project.urls]\n{lines}", 1)


def write(path: Path, text: str) -> None:
    """Replace the file's text where it differs, and say so."""
    if path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


def release(version: str) -> None:
    """Write the version everywhere."""
    for path, before in list(places()):
        text = path.read_text(encoding="utf-8")
        write(path, re.sub(f"({before}){VERSION}", rf"\g<1>{version}", text, flags=re.MULTILINE))
    changelog = ROOT / "CHANGELOG.md"
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    write(changelog, dated(changelog.read_text(encoding="utf-8"), version, day))
    pyproject = ROOT / "pyproject.toml"
    write(pyproject, with_urls(pyproject.read_text(encoding="utf-8"), repository()))
    generate = ROOT / "docs" / "generate.py"
    text = generate.read_text(encoding="utf-8")
    write(generate, re.sub('^INSTALL_FROM = ".*"$', 'INSTALL_FROM = "anyvar-step"', text, flags=re.MULTILINE))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not re.fullmatch(VERSION, sys.argv[1]):
        sys.exit("usage: make release VERSION=1.2.3 (or 1.2.3rc1): a semantic version, as PEP 440 writes it")
    release(sys.argv[1])
