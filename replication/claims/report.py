"""Figures' quantities and claims' verdicts in words, for the terminal."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from replication.claims.statistics import mean_interval
from replication.claims.verdicts import Verdict, exit_status
from replication.pipeline.judging import read_quantities, read_verdicts

_TRUST = {"recalled": "recalled, not checked", "none": "no number published"}
_MARKS = {"reproduced": "+", "not_reproduced": "x", "inconclusive": "?", "not_evaluated": "-", "error": "!", "withdrawn": "-"}


def show_figure(quantities_file: Path, verdicts_file: Path) -> None:
    """Print where a figure lies, its quantities with their intervals and its claims with their verdicts."""
    quantities = read_quantities(quantities_file)
    content = read_verdicts(verdicts_file)
    rows = [(name, *_spread(list(values.values())), len(values)) for name, values in quantities.items()]
    stem = str(quantities_file).removesuffix(".quantities.csv")
    print(f"\n{stem}.png (.pdf, .svg), {content['scale']} scale\n")
    print(tabulate(rows, headers=["quantity", "mean over seeds", "90 % interval", "seeds"], disable_numparse=True), end="\n\n")
    _print_verdicts([(content["scale"], entry) for entry in content["verdicts"]])


def show_claims(verdict_files: Sequence[Path], *, ci: bool = False) -> int:
    """Print every claim with its verdict and the counts; returns the exit status (see ``claims.exit_status``)."""
    entries = []
    for path in verdict_files:
        content = read_verdicts(path)
        entries += [(content["scale"], entry) for entry in content["verdicts"] if entry["ci"] or not ci]
    _print_verdicts(entries)
    verdicts = [Verdict(**{field.name: entry[field.name] for field in dataclasses.fields(Verdict)}) for _, entry in entries]
    status = exit_status(verdicts, ci=ci)
    words = {
        0: "every claim required at this scale is reproduced" if not ci else "no claim checked here fails",
        1: "not every required claim is reproduced",
        2: "something is broken: see the verdict error",
    }
    for known in (entry for _, entry in entries if entry["discrepancy"]):
        print(f"{known['id']}, known discrepancy. {known['discrepancy']}\n")
    apart = ", known discrepancies apart" if any(entry["discrepancy"] for _, entry in entries) else ""
    print(f"{len(entries)} claims: {words[status]}{apart}.")
    return status


def _print_verdicts(entries: list[tuple[str, dict[str, Any]]]) -> None:
    rows = []
    for scale, entry in entries:
        values = [float("nan") if value is None else value for value in entry["estimates"].values()]
        mean, interval = _spread(values) if values else ("", "")
        trust = _TRUST.get(entry["trust"], entry["trust"])
        verdict = f"{_MARKS[entry['outcome']]} {entry['outcome']}" + (" (post hoc)" if entry["post_hoc"] else "")
        verdict += " (known discrepancy)" if entry["discrepancy"] else ""
        control = f"{entry['control']} ({entry['control_mean']:.3g})" if entry["control_mean"] is not None else entry["control"]
        seeds = f"; seeds {', '.join(f'{value:.4g}' for value in values)}" if values else ""
        measured = f"{mean} {interval}".strip() + (f" {entry['unit']}" if entry["unit"] and values else "") + seeds
        rows.append((entry["id"], verdict, measured, entry["region"], f"{entry['published']}; {trust}", control, scale, entry["reason"]))
    headers = ["claim", "verdict", "measured [90 %]", "accepted", "published; trust", "under control", "scale", "why"]
    print(tabulate(rows, headers=headers, maxcolwidths=[None, None, 30, None, 34, 16, None, 30], disable_numparse=True))
    counts = Counter(entry["outcome"] for _, entry in entries)
    print("\n" + ", ".join(f"{counts[outcome]} {outcome}" for outcome in _MARKS) + "\n")


def _spread(values: list[float]) -> tuple[str, str]:
    low, high = mean_interval(values)
    mean = sum(values) / len(values)
    return f"{mean:.4g}", f"[{low:.4g}, {high:.4g}]" if len(values) > 1 else "[one seed]"
