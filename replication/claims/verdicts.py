"""From a published value, an acceptance region and one estimate per seed to a verdict.

The verdict is read off a 90 % interval over seeds: inside the acceptance region = reproduced, outside = not_reproduced, across
its edge = inconclusive. An identity is exact by theory, so there every seed must lie inside. A claim that holds under its control as
well is an error where a 99 % interval says so, and inconclusive where only the 90 % interval does: that happens by chance.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from replication.claims.power import POWER, seeds_for_power
from replication.claims.statistics import LEVEL, mean_interval
from replication.schema.claims import Claim, Expectation

Outcome = Literal["reproduced", "not_reproduced", "inconclusive", "not_evaluated", "error", "withdrawn"]
# One control in twenty whose mean lies on the edge holds by chance at 90 %; an error takes more than that.
CONTROL_LEVEL = 0.99
KNOWN = "known discrepancy"
COUNTED = ("reproduced", KNOWN, "not_reproduced", "inconclusive", "not_evaluated", "withdrawn", "error")  # the order of every table


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One claim judged at one scale; plain values, as written to the verdict files.

    Attributes:
        outcome: the verdict; ``reason`` says why in words.
        required: whether it counts towards the exit status at this scale.
        published_number: the published value on the quantity's scale, None where there is none.
        estimates: one per seed, by seed.
        mean, low, high: of the estimates; the interval over seeds at 90 %; None where not finite.
        region: the acceptance region, in words; ``low_edge`` and ``high_edge`` as numbers, None where it is open.
        control: the outcome of the same rule on the control quantity, and ``control_mean`` its mean; ``breaks`` says what it breaks.
        discrepancy: evidence and hypothesis of a known discrepancy, or "".
    """

    id: str
    statement: str
    published: str
    published_number: float | None
    trust: str
    quantity: str
    unit: str
    outcome: Outcome
    reason: str
    required: bool
    ci: bool
    estimates: dict[str, float | None]
    mean: float | None
    low: float | None
    high: float | None
    region: str
    low_edge: float | None
    high_edge: float | None
    basis: str
    control: str
    control_mean: float | None
    breaks: str
    discrepancy: str


def judge(claim: Claim, quantities: Mapping[str, Mapping[int, float]], *, may_be_absent: bool = False) -> Verdict:
    """Judge one claim from the quantities of its figure, each one estimate per seed.

    Args:
        may_be_absent: a missing quantity is not_evaluated (recorded tables can be incomplete) and no error.

    >>> claim = Claim.model_validate({
    ...     "id": "LCA-X1", "statement": "The loss falls.", "kind": "ordering", "quantity": "total",
    ...     "published": {"value": "negative", "where": "Figure 5", "trust": "confirmed"},
    ...     "control": {"quantity": "total_shuffled", "breaks": "the order of the steps"},
    ...     "expect": {"rule": "below", "bound": 0.0, "basis": "published"},
    ... })
    >>> judge(claim, {"total": {0: -1.0, 1: -1.1}, "total_shuffled": {0: 1.0, 1: 1.1}}).outcome
    'reproduced'
    """
    estimates = dict(quantities.get(claim.quantity, {}))
    control = dict(quantities.get(claim.control.quantity, {}))
    outcome, reason, control_outcome = _outcome(claim, estimates, control, may_be_absent)
    low, high = mean_interval(list(estimates.values())) if estimates else (math.nan, math.nan)
    low_edge, high_edge = claim.expect.region if claim.expect else (-math.inf, math.inf)
    return Verdict(
        id=claim.id,
        statement=claim.statement,
        published=f"{claim.published.value} ({claim.published.where})",
        published_number=claim.published.drawn,
        trust=claim.published.trust,
        quantity=claim.quantity,
        unit=claim.unit,
        outcome=outcome,
        reason=reason,
        required=claim.expect is not None and not claim.withdrawn,
        ci=claim.ci,
        estimates={str(seed): _finite(value) for seed, value in estimates.items()},
        mean=_mean(estimates),
        low=_finite(low),
        high=_finite(high),
        region=region_text(claim.expect) if claim.expect else "",
        low_edge=_finite(low_edge),
        high_edge=_finite(high_edge),
        basis=f"{claim.expect.basis}: {claim.expect.note}".rstrip(": ") if claim.expect else "",
        control=control_outcome,
        control_mean=_mean(control),
        breaks=claim.control.breaks,
        discrepancy=f"{claim.discrepancy.evidence} Hypothesis: {claim.discrepancy.hypothesis}" if claim.discrepancy else "",
    )


def _outcome(claim: Claim, estimates: dict[int, float], control: dict[int, float], may_be_absent: bool) -> tuple[Outcome, str, str]:
    """Outcome, its reason and the control's outcome."""
    if claim.withdrawn:
        return "withdrawn", claim.withdrawn, ""
    if claim.expect is None:
        return "not_evaluated", claim.not_evaluated or "this scale says nothing about the claim", ""
    if not estimates:
        return ("not_evaluated" if may_be_absent else "error"), f"no estimate of {claim.quantity} was made", ""
    outcome, reason = compare(list(estimates.values()), claim.expect, exact=claim.kind == "identity")
    if not control:
        return ("not_evaluated" if may_be_absent else "error"), f"no estimate of its control {claim.control.quantity} was made", ""
    exact = claim.kind == "identity"
    control_outcome, control_reason = compare(list(control.values()), claim.expect, exact=exact)
    if outcome == "reproduced" and control_outcome == "reproduced":
        if compare(list(control.values()), claim.expect, exact=exact, level=CONTROL_LEVEL)[0] == "reproduced":
            return "error", f"also holds with the mechanism broken ({claim.control.breaks}), so it proves nothing", control_outcome
        return "inconclusive", f"may hold with the mechanism broken too ({claim.control.breaks}); more seeds would tell", control_outcome
    if outcome == "reproduced" and control_outcome == "error":
        return "error", f"its control {claim.control.quantity} cannot be judged: {control_reason}", control_outcome
    return outcome, reason, control_outcome


def compare(estimates: Sequence[float], expect: Expectation, *, exact: bool = False, level: float = LEVEL) -> tuple[Outcome, str]:
    """Where the estimates of all seeds lie relative to the acceptance region.

    >>> negative = Expectation(rule="below", bound=0.0, basis="published")
    >>> compare([-1.0, -1.1, -0.9], negative)
    ('reproduced', 'interval inside')
    """
    if not estimates:
        return "error", "no estimates"
    if not all(math.isfinite(value) for value in estimates):
        return "error", f"{sum(not math.isfinite(value) for value in estimates)} of {len(estimates)} seeds gave a non-finite estimate"
    low_edge, high_edge = expect.region
    if exact:
        inside = [low_edge < value < high_edge for value in estimates]
        if all(inside):
            return "reproduced", "every seed inside"
        return "not_reproduced", f"{inside.count(False)} of {len(inside)} seeds outside"
    low, high = mean_interval(estimates, level)
    if low_edge < low and high < high_edge:
        return "reproduced", "interval inside"
    if high <= low_edge or low >= high_edge:
        return "not_reproduced", "interval outside"
    if len(estimates) < 2:
        return "inconclusive", "one seed gives no interval; two or more are needed"
    needed = seeds_for_power(estimates, (low_edge, high_edge))
    seeds = f"about {needed} seeds" if needed else "more seeds than can be trained"
    return "inconclusive", f"interval across the edge; {seeds} would decide with probability {POWER:g}"


def region_text(expect: Expectation) -> str:
    """The acceptance region in words.

    >>> region_text(Expectation(rule="between", low=51, high=60, basis="published"))
    'between 51 and 60'
    """
    if expect.rule == "between":
        return f"between {expect.low:g} and {expect.high:g}"
    return f"{expect.rule} {expect.bound:g}"


def counted_as(verdict: Verdict) -> str:
    """The word under which a verdict is counted, the same in every table: its outcome, or that it is a known discrepancy.

    A known discrepancy is a claim that was decided not to hold again; an undecided one stays inconclusive.
    """
    return KNOWN if verdict.discrepancy and verdict.outcome == "not_reproduced" else verdict.outcome


def count_text(counts: Mapping[str, int]) -> str:
    """How many verdicts there are of each kind that occurs, in words, in the order of ``COUNTED``.

    >>> count_text({"inconclusive": 1, "reproduced": 2, "error": 0})
    '2 reproduced, 1 inconclusive'
    """
    return ", ".join(f"{counts[kind]} {kind_text(kind, counts[kind])}" for kind in COUNTED if counts.get(kind))


def kind_text(kind: str, count: int = 1) -> str:
    """The words for a kind of verdict.

    >>> kind_text("not_reproduced"), kind_text("known discrepancy", 2)
    ('not reproduced', 'known discrepancies')
    """
    return "known discrepancies" if kind == KNOWN and count != 1 else kind.replace("_", " ")


def is_contradicted(verdict: Verdict) -> bool:
    """Whether the opposite of what is expected was decided: a claim that does not hold, or a known discrepancy that is gone."""
    return verdict.outcome == ("reproduced" if verdict.discrepancy else "not_reproduced")


def exit_status(verdicts: Sequence[Verdict], *, ci: bool = False) -> int:
    """0: no required claim is contradicted; 1: the opposite of what is expected was decided for some; 2: something is broken.

    An inconclusive claim contradicts nothing: it lacks seeds. With ``ci`` only claims marked so count.

    >>> exit_status([])
    0
    """
    counted = [verdict for verdict in verdicts if verdict.required and (verdict.ci or not ci)]
    if any(verdict.outcome == "error" for verdict in counted):
        return 2
    return 1 if any(is_contradicted(verdict) for verdict in counted) else 0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(estimates: Mapping[int, float]) -> float | None:
    return _finite(math.fsum(estimates.values()) / len(estimates)) if estimates and all(map(math.isfinite, estimates.values())) else None
