"""Figures' quantities and claims' verdicts in words, for the terminal."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from replication.claims.results import QUANTITIES, JudgedClaim, read_quantities, read_verdicts
from replication.claims.statistics import mean_interval
from replication.claims.verdicts import count_text, counted_as, exit_status, is_contradicted, kind_text

_TRUST = {"recalled": "recalled, not checked", "none": "no number published"}
_MARKS = {"reproduced": "+", "known discrepancy": "~", "not_reproduced": "x", "inconclusive": "?", "error": "!"}
_Row = tuple[str, JudgedClaim]  # scale and verdict


def show_figure(quantities_file: Path, verdicts_file: Path) -> None:
    """Print where a figure lies, its quantities with their intervals and its claims with their verdicts."""
    quantities = read_quantities(quantities_file)
    figure = read_verdicts(verdicts_file)
    rows = [(name, *_mean_and_interval(list(values.values())), len(values)) for name, values in quantities.items()]
    stem = str(quantities_file).removesuffix(QUANTITIES)
    print(f"\n{stem}.png (.pdf, .svg), {figure.scale} scale\n")
    print(tabulate(rows, headers=["quantity", "mean over seeds", "90 % interval", "seeds"], disable_numparse=True), end="\n\n")
    _print_verdicts([(figure.scale, verdict) for verdict in figure.verdicts])


def show_claims(verdict_files: Sequence[Path], *, ci: bool = False) -> int:
    """Print every claim with its verdict and the counts; returns the exit status (see ``claims.exit_status``)."""
    figures = [read_verdicts(path) for path in verdict_files]
    rows = [(figure.scale, verdict) for figure in figures for verdict in figure.verdicts if verdict.ci or not ci]
    _print_verdicts(rows)
    verdicts = [verdict for _, verdict in rows]
    for verdict in verdicts:
        if verdict.discrepancy and verdict.required:
            print(f"{verdict.id}, {_discrepancy_text(verdict)}. {verdict.discrepancy}\n")
    status = exit_status(verdicts, ci=ci)
    print(f"{len(rows)} claims{_seeds(verdicts)}. {_conclusion(status, [verdict for verdict in verdicts if verdict.required])}")
    return status


def _discrepancy_text(verdict: JudgedClaim) -> str:
    kind = counted_as(verdict)
    words = {"reproduced": "a known discrepancy that is gone: it is reproduced here", "inconclusive": "a known discrepancy, undecided here"}
    return words.get(kind, kind_text(kind))


def _conclusion(status: int, required: Sequence[JudgedClaim]) -> str:
    """What the exit status means, and which claims it rests on."""
    contradicted = [verdict.id for verdict in required if is_contradicted(verdict)]
    broken = [verdict.id for verdict in required if verdict.outcome == "error"]
    if status == 2:
        return f"Something is broken: {', '.join(broken)}."
    if status == 1:
        return f"The opposite of what is expected was decided: {', '.join(contradicted)}."
    undecided = sum(verdict.outcome == "inconclusive" for verdict in required)
    apart = f", {undecided} undecided at this number of seeds (`replicate power` says how many would decide)" if undecided else ""
    return f"No claim required at this scale is contradicted{apart}."


def _print_verdicts(rows: Sequence[_Row]) -> None:
    headers = ["claim", "verdict", "measured [90 %]", "accepted", "published; trust", "under control", "scale", "why"]
    cells = [_cells(scale, verdict) for scale, verdict in rows]
    print(tabulate(cells, headers=headers, maxcolwidths=[None, None, 30, None, 34, 16, None, 30], disable_numparse=True))
    print(f"\n{count_text(Counter(counted_as(verdict) for _, verdict in rows))}\n")


def _seeds(verdicts: Sequence[JudgedClaim]) -> str:
    """How many seeds the claims were estimated from."""
    numbers = [len(verdict.estimates) for verdict in verdicts if verdict.estimates]
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f", each from {low if low == high else f'{low} to {high}'} seed{'' if high == 1 else 's'}"


def _cells(scale: str, verdict: JudgedClaim) -> tuple[str, ...]:
    """One row of the table of claims."""
    values = [float("nan") if value is None else value for value in verdict.estimates.values()]
    mean, interval = _mean_and_interval(values) if values else ("", "")
    seeds = f"; seeds {', '.join(f'{value:.4g}' for value in values)}" if values else ""
    measured = f"{mean} {interval}".strip() + (f" {verdict.unit}" if verdict.unit and values else "") + seeds
    kind = counted_as(verdict)
    outcome = f"{_MARKS.get(kind, '-')} {kind_text(kind)}" + (" (post hoc)" if verdict.post_hoc else "")
    outcome += " (a discrepancy elsewhere)" if verdict.discrepancy and kind in ("reproduced", "inconclusive") else ""
    control = verdict.control if verdict.control_mean is None else f"{verdict.control} ({verdict.control_mean:.3g})"
    published = f"{verdict.published}; {_TRUST.get(verdict.trust, verdict.trust)}"
    return verdict.id, outcome, measured, verdict.region, published, control, scale, verdict.reason


def _mean_and_interval(values: list[float]) -> tuple[str, str]:
    low, high = mean_interval(values)
    mean = sum(values) / len(values)
    return f"{mean:.4g}", f"[{low:.4g}, {high:.4g}]" if len(values) > 1 else "[one seed]"
