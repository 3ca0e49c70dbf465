"""The table of faults and outcomes in docs/reliability.md, written from what a campaign measured."""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from anyvar_step import __version__
from faults.harness import Campaign, Fault, Outcome

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = """\
| what is done | trials | as promised | exit codes (how often) | workers' | swept | seconds: median, longest |
|---|---|---|---|---|---|---|
"""


class Results:
    """The outcomes of a campaign's trials in a file, a line of JSON each; nothing is kept without a path.

    A campaign that is called again with the same seed and file goes on where it was interrupted.
    """

    def __init__(self, path: str, seed: str) -> None:
        self._path, self._seed = Path(path) if path else None, seed
        self._lock = threading.Lock()

    def done(self) -> dict[str, dict[int, Outcome]]:
        """The outcomes so far, by fault and number."""
        found = defaultdict[str, dict[int, Outcome]](dict)
        if self._path and self._path.exists():
            for line in self._path.read_text().splitlines():
                entry = json.loads(line)
                if entry.pop("seed") == self._seed:
                    name = entry.pop("fault")
                    found[name][entry["number"]] = Outcome(**entry)
        return found

    def keep(self, each: Fault, outcome: Outcome) -> None:
        """Add the outcome of one trial."""
        if self._path:
            line = json.dumps({"seed": self._seed, "fault": each.name, **asdict(outcome)})
            with self._lock, self._path.open("a") as file:
                file.write(line + "\n")


def _outcomes(campaign: Campaign, each: Fault) -> list[Outcome]:
    return [future.result() for future in campaign.outcomes[each] if future.done() and not future.cancelled()]


def _row(each: Fault, outcomes: list[Outcome]) -> str:
    told = _counted(code for outcome in outcomes for code in outcome.codes)
    ended = _counted(code for outcome in outcomes for code in outcome.ended)
    took = sorted(outcome.seconds for outcome in outcomes)
    good = sum(not outcome.problem for outcome in outcomes)
    swept = sum(bool(outcome.swept) for outcome in outcomes)
    seconds = f"{took[len(took) // 2]:.0f}, {took[-1]:.0f}"
    return f"| {each.name} | {len(outcomes)} | {good} | {told} | {ended} | {swept or ''} | {seconds} |\n"


def _counted(codes: Iterable[int | None]) -> str:
    """Each code, and how often."""
    return ", ".join(f"{code} ({count})" for code, count in sorted(Counter(codes).items(), key=str))


def table(campaign: Campaign) -> str:
    """The rows of all faults that were tried, and a line that says where and how."""
    rows = {each: _outcomes(campaign, each) for each in campaign.outcomes}
    trials = sum(map(len, rows.values()))
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    said = (
        f"{when}: {trials} trials of {sum(map(bool, rows.values()))} faults, anyvar-step {__version__}, "
        f"seed {campaign.seed}, {os.cpu_count()} cores; {campaign.views.told}."
    )
    return HEAD + "".join(_row(*row) for row in rows.items() if row[1]) + f"\n{said}\n"


def summary(campaign: Campaign) -> str:
    """One line: the seed, the trials, and how many did not end as promised."""
    outcomes = [outcome for each in campaign.outcomes for outcome in _outcomes(campaign, each)]
    bad = sum(bool(outcome.problem) for outcome in outcomes)
    return (
        f"FAULTS_SEED={campaign.seed}: {len(outcomes)} trials, {bad} not as promised; {campaign.views.told}"
    )


def write_table(path: Path, campaign: Campaign) -> None:
    """Put the table between its marks in the Markdown file."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{table(campaign)}{END}{after}")
