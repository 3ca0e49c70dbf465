"""The table of faults and outcomes in docs/reliability.md, written from what a campaign measured."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from pathlib import Path

from faults.harness import Campaign, Fault, Outcome

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = """\
| what is done | trials | as promised | exit codes (how often) | left to a sweep | seconds: median, longest |
|---|---|---|---|---|---|
"""


def _outcomes(campaign: Campaign, each: Fault) -> list[Outcome]:
    return [future.result() for future in campaign.outcomes[each] if future.done() and not future.cancelled()]


def _row(each: Fault, outcomes: list[Outcome]) -> str:
    codes = Counter(code for outcome in outcomes for code in outcome.codes)
    told = ", ".join(f"{code} ({count})" for code, count in sorted(codes.items(), key=str))
    took = sorted(outcome.seconds for outcome in outcomes)
    good = sum(not outcome.problem for outcome in outcomes)
    swept = sum(bool(outcome.swept) for outcome in outcomes)
    seconds = f"{took[len(took) // 2]:.0f}, {took[-1]:.0f}"
    return f"| {each.name} | {len(outcomes)} | {good} | {told} | {swept or ''} | {seconds} |\n"


def table(campaign: Campaign) -> str:
    """The rows of all faults that were tried, and a line that says where and how."""
    rows = {each: _outcomes(campaign, each) for each in campaign.outcomes}
    trials = sum(map(len, rows.values()))
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    said = f"{when}: {trials} trials, seed {campaign.seed}, {os.cpu_count()} cores; {campaign.views.told}."
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
