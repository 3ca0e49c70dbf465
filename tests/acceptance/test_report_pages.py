"""The page on many runs in a real browser, and its sections in a real MultiQC report."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import Browser
from support import ROOT

pytestmark = pytest.mark.services

WHITE, NIGHT = (255, 255, 255), (20, 23, 28)


@pytest.fixture(scope="module")
def reports(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The reports of the demo's three samples, from real runs; the first is called something hostile."""
    folder = tmp_path_factory.mktemp("reports")
    names = {"alice": "<b>alice</b>", "bela": "bela_" + "x" * 60, "carol": "carol"}
    steps = [
        f"{sys.executable} -m anyvar_step annotate {demo_data}/vcf/{sample}.vcf -o {sample}.vcf.gz"
        f" --assembly demo --report '{name.replace('/', '|')}.json'"
        for sample, name in names.items()
    ]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ["ANYVAR_STEP_REFERENCE"] = f"demo={demo_data}/resources/genome.fa"
    argv = [sys.executable, "-m", "anyvar_step", "local", "--", "sh", "-ec", "\n".join(steps)]
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return sorted(folder.glob("*.json"))


@pytest.fixture(scope="module")
def page(reports: list[Path]) -> Path:
    """The page."""
    target = reports[0].parent / "report.html"
    command("report", *reports, "-o", target)
    return target


def command(*arguments: object) -> None:
    argv = [sys.executable, "-m", "anyvar_step", *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("dark", "ground"), [(False, WHITE), (True, NIGHT)], ids=["light", "dark"])
def test_the_page_is_drawn_as_the_reader_chose(
    page: Path, tmp_path: Path, dark: bool, ground: tuple[int, ...]
) -> None:
    picture = tmp_path / "report.png"
    assert Browser(tmp_path, dark).screenshot(page, picture) == ground
    assert picture.stat().st_size > 30_000, "more than an empty page"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [380, 1200])
def test_the_page_fits_its_window_and_can_be_read(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    measured = Browser(tmp_path, dark).measure(page, width)
    assert measured["too_wide"] <= 0
    assert measured["ends_cut"] == 0, "samples differ at the end of their names"
    assert measured["names_stay"], "the table scrolls sideways under its samples' names"
    assert measured["faintest"] >= 4.5, "WCAG 2.1 AA"
    assert measured["headings"][:2] == ["VRS annotation", "Problems"]


def test_the_bars_are_as_long_as_their_numbers(page: Path, reports: list[Path], tmp_path: Path) -> None:
    from anyvar_step.report.html import alleles
    from anyvar_step.report.samples import read_samples

    made = alleles(read_samples(reports))
    measured = Browser(tmp_path).measure(page, 1200)
    longest = made.ticks[-1][0]
    for bar, drawn in zip(made.bars, measured["bars"], strict=True):
        expected = [measured["scale"] * part.value / longest for part in bar.parts]
        assert drawn == pytest.approx(expected, abs=1.0)


def test_a_page_of_hundreds_of_samples_stays_short(reports: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / f"sample{number:03d}.json" for number in range(300)]
    for copy in copies:
        copy.write_bytes(reports[-1].read_bytes())
    command("report", *copies, "-o", tmp_path / "many.html")
    measured = Browser(tmp_path).measure(tmp_path / "many.html", 1200)
    assert len(measured["bars"]) == 300
    assert measured["height"] < 15_000, "lists and plots scroll in windows of their own; the runs are folded"


def test_multiqc_shows_the_samples_and_the_plots(reports: list[Path], tmp_path: Path, tools: Path) -> None:
    command("report", *reports, "--failed", "<b>dora</b>", "--multiqc", tmp_path / "sections")
    argv = [str(tools / "multiqc"), "--no-version-check", "--strict", "sections", "--outdir", "seen"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "seen" / "multiqc_report.html"
    shown = Browser(tmp_path).dom(report)
    for heading in (
        "Alleles by kind",
        "VRS_Error and unknown contigs",
        "Time by phase",
        "VRS ids",
        "Failed",
    ):
        assert heading in shown
    assert "<li>&lt;b&gt;dora&lt;/b&gt;</li>" in shown
    plots = shown.partition('<svg class="main-svg"')[2]
    assert "carol" in plots, "drawn, not only carried along"
    assert "SNV" in plots


def test_the_table_is_filtered_and_sorted_from_a_disk(reports: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / f"sample{number:04d}.json" for number in range(2000)]
    for number, copy in enumerate(copies):
        content = json.loads(reports[-1].read_text())
        content["counts"]["records"] = (number * 7919) % 2000
        copy.write_text(json.dumps(content))
    command("report", *copies, "-o", tmp_path / "many.html")
    page = (tmp_path / "many.html").read_text()
    used = """<script>{
    const head = document.querySelector("table.numbers thead").rows[0].cells[2];
    head.querySelector("button").click(); head.querySelector("button").click();
    const filter = document.querySelector("#filter");
    filter.value = "SAMPLE19"; filter.dispatchEvent(new Event("input"));
    const rows = [...document.querySelector("table.numbers").tBodies[0].rows];
    document.title = JSON.stringify([rows.filter(row => !row.hidden).length, head.ariaSort,
      rows.slice(0, 3).map(row => row.cells[2].textContent), filter.checkVisibility()]);
    }</script>"""
    allowed = page.replace("script-src ", "script-src 'unsafe-inline' ").replace("'sha256-", "'x-")
    (tmp_path / "used.html").write_text(allowed.replace("</body>", used + "</body>"))
    title = re.search("<title>(.*)</title>", Browser(tmp_path).dom(tmp_path / "used.html"))
    assert title
    assert json.loads(html.unescape(title[1])) == [100, "descending", ["1,999", "1,998", "1,997"], True]
    assert ">filter" not in Browser(tmp_path).dom(tmp_path / "many.html")
