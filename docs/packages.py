"""The packages, their layers, what they import, and a figure of both.

    python docs/packages.py    writes docs/packages.svg

Tests compare the code with LAYERS and the figure with the code.
"""

from __future__ import annotations

import ast
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "anyvar_step"

#: From the ground up: a package imports from layers below its own only.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("text", "errors", "settings", "models", "files"),
    ("vcf", "reference", "store", "report"),
    ("vrs", "runs"),
    ("pipeline",),
    ("worker",),
    ("client",),
    ("web", "check", "embedded", "supervisor"),
    ("cli",),
)

_WIDTH, _ROW, _BOX, _TALL = 920, 84, 104, 34
#: Layers of few packages are shifted by turns, so that arrows do not run behind a package.
_ASIDE = 70
_STYLE = """
  .package { fill: #00796b } .name { fill: #fff; font: 14px sans-serif; text-anchor: middle }
  .way { stroke: #78909c; fill: none; stroke-width: 1.3 }
  .layer { fill: #78909c; font: 12px sans-serif }
  @media (prefers-color-scheme: dark) { .package { fill: #26a69a } .name { fill: #102027 } }
"""


def imports_of(path: Path) -> set[str]:
    """The packages that a module imports, at its top or in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "anyvar_step":
            found |= {f"anyvar_step.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    packages = {name.split(".")[1] for name in found if name.startswith("anyvar_step.")}
    return {package for package in packages if not package.startswith(("_", "VRS"))}


def imports() -> dict[str, set[str]]:
    """What each package imports from others."""
    found: dict[str, set[str]] = {package: set() for layer in LAYERS for package in layer}
    for path in PACKAGE.rglob("*.py"):
        package = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if package in found:
            found[package] |= imports_of(path) - {package}
    return found


def _shown(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no others imply, so that the figure can be read; those within a layer apart."""
    reach: dict[str, set[str]] = {}
    for layer in LAYERS:
        for package in layer:
            below = {other for other in graph[package] if other in reach}
            reach[package] = below.union(*(reach[other] for other in below))
    return [
        (package, other)
        for package, others in graph.items()
        for other in sorted(others)
        if not any(other in reach.get(between, ()) for between in others - {other})
    ]


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    """From the bottom of one box to the top of another; below both where they stand in one layer."""
    below = y1 == y2
    y1, y2 = y1 + _TALL / 2, y2 + (_TALL / 2 if below else -_TALL / 2)
    half = y1 + _TALL if below else (y1 + y2) / 2
    return f"M{x1:.0f} {y1:.0f}C{x1:.0f} {half:.0f} {x2:.0f} {half:.0f} {x2:.0f} {y2:.0f}"


def picture() -> str:
    """The layers from top to bottom as SVG, with an arrow for each import."""
    height = _ROW * len(LAYERS)
    place: dict[str, tuple[float, float]] = {}
    for number, layer in enumerate(LAYERS):
        for index, package in enumerate(layer):
            x = _WIDTH * (index + 0.5) / len(layer) + (number % 2 * 2 - 1) * _ASIDE * (len(layer) < 4)
            place[package] = (x, height - _ROW * (number + 0.5))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>The packages of anyvar_step: what imports what, from cli down to errors</title>",
        f"<style>{_STYLE}</style>",
    ]
    for package, other in _shown(imports()):
        lines.append(f'<path class="way" d="{_curve(*place[package], *place[other])}"/>')
    for package, (x, y) in place.items():
        left, top = x - _BOX / 2, y - _TALL / 2
        lines.append(
            f'<rect class="package" x="{left:.0f}" y="{top:.0f}" width="{_BOX}" height="{_TALL}" rx="6"/>'
        )
        lines.append(f'<text class="name" x="{x:.0f}" y="{y + 5:.0f}">{package}</text>')
    return "\n".join([*lines, "</svg>\n"])


if __name__ == "__main__":
    (DOCS / "packages.svg").write_text(picture(), encoding="utf-8")
