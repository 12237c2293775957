"""How many seeds the claims of figures need, from the quantities that pilots or finished runs left: what ``replicate power`` prints."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from replication.claims.power import POWER, chance_to_hold, decision_probability, seeds_for_power
from replication.claims.results import QUANTITIES, read_quantities
from replication.claims.statistics import mean_interval
from replication.claims.verdicts import compare, kind_text, region_text
from replication.errors import ReplicationError
from replication.pipeline import dag
from replication.pipeline.request import measured_core_minutes
from replication.schema.claims import Claim, Expectation


@dataclass(frozen=True)
class ClaimPower:
    """What the estimates of one claim say about the seeds that it needs.

    Attributes:
        estimates: one per seed.
        outcome: of the claim itself with these seeds, its control apart.
        probability: of a decision with as many new seeds as there are estimates, if the effect is as estimated.
        seeds_needed: for a decision with probability 0.9; None where no affordable number is enough.
        control_holds: the probability that the control holds too with as many seeds; None where it was not estimated.
        minutes_per_seed: core-minutes of the figure at this scale by docs/measured.csv, for each of its seeds; None where unknown.
    """

    claim: str
    figure: str
    expect: Expectation
    estimates: tuple[float, ...]
    outcome: str
    probability: float
    seeds_needed: int | None
    control_holds: float | None
    minutes_per_seed: float | None


def claims_power(scale: str, results: Path = Path("results"), names: Collection[str] = ()) -> list[ClaimPower]:
    """Every claim with an acceptance region and at least two estimates, of the figures that are drawn in ``results`` at a scale.

    Identities are left out, since each of their seeds decides.

    Args:
        names: figures and papers to be looked at; all without any.

    Raises:
        ReplicationError: a name is unknown, or none of the figures is drawn.
    """
    known = {name for paper, figure, _ in dag.figures() for name in (paper, figure)}
    if unknown := [name for name in names if name not in known]:
        raise ReplicationError(f"There is no figure or paper named '{unknown[0]}'; `replicate power --help` lists all.")
    found = []
    for paper, figure, _ in dag.figures():
        file = results / scale / paper / "figures" / f"{figure}{QUANTITIES}"
        if file.exists() and (not names or {paper, figure} & set(names)):
            found.append((paper, figure, file))
    if not found:
        raise ReplicationError(f"No such figure is drawn in {results / scale}; make it first, or name another --scale or --results.")
    return [power for paper, figure, file in found for power in _figure_power(scale, paper, figure, file)]


def _figure_power(scale: str, paper: str, figure: str, file: Path) -> list[ClaimPower]:
    quantities = read_quantities(file)
    powers = []
    for claim in dag.figure_of(scale, paper, figure).claims:
        estimates = list(quantities.get(claim.quantity, {}).values())
        judged = claim.expect is not None and claim.kind != "identity" and not claim.withdrawn
        if judged and len(estimates) > 1 and compare(estimates, _expectation(claim))[0] != "error":
            control = list(quantities.get(claim.control.quantity, {}).values())
            powers.append(_claim_power(claim, figure, estimates, control, _minutes_per_seed(scale, paper, figure, len(estimates))))
    return powers


def _expectation(claim: Claim) -> Expectation:
    assert claim.expect is not None
    return claim.expect


def _claim_power(claim: Claim, figure: str, estimates: list[float], control: list[float], minutes: float | None) -> ClaimPower:
    expect = _expectation(claim)
    control_finite = len(control) > 1 and compare(control, expect)[0] != "error"
    return ClaimPower(
        claim=claim.id,
        figure=figure,
        expect=expect,
        estimates=tuple(estimates),
        outcome=compare(estimates, expect)[0],
        probability=decision_probability(estimates, expect.region, len(estimates)),
        seeds_needed=seeds_for_power(estimates, expect.region),
        control_holds=chance_to_hold(control, expect.region, len(control)) if control_finite else None,
        minutes_per_seed=minutes,
    )


def _minutes_per_seed(scale: str, paper: str, figure: str, n_seeds: int) -> float | None:
    minutes = measured_core_minutes().get((scale, figure))
    configured = max((dag.n_seeds(scale, paper, name) for name in dag.figure_of(scale, paper, figure).measurements), default=n_seeds)
    return minutes / configured if minutes is not None else None


def show_power(powers: list[ClaimPower]) -> None:
    """Print a row for each claim, those that need most seeds last, and what they have in common."""
    headers = [
        "claim",
        "with these seeds",
        "mean [90 %]",
        "accepted",
        "seeds",
        "decided",
        f"seeds for {POWER:g}",
        "core-min more",
        "control holds",
    ]
    rows = [_cells(power) for power in sorted(powers, key=lambda each: each.seeds_needed or 10**9)]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    short = sum(power.seeds_needed is None or power.seeds_needed > len(power.estimates) for power in powers)
    print(
        f"\n{len(powers)} claims; {short} have fewer seeds than a decision with probability {POWER:g} needs, if the effect is as estimated."
    )


def _cells(power: ClaimPower) -> tuple[str, ...]:
    low, high = mean_interval(power.estimates)
    mean, n = sum(power.estimates) / len(power.estimates), len(power.estimates)
    needed = "no affordable number" if power.seeds_needed is None else str(power.seeds_needed)
    missing = max(0, (power.seeds_needed or n) - n)
    cost = f"{missing * power.minutes_per_seed:.0f}" if missing and power.minutes_per_seed is not None else ""
    control = "" if power.control_holds is None else f"{power.control_holds:.2f}"
    interval = f"{mean:.3g} [{low:.3g}, {high:.3g}]"
    region = region_text(power.expect)
    return power.claim, kind_text(power.outcome), interval, region, str(n), f"{power.probability:.2f}", needed, cost, control
