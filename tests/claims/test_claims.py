"""Verdicts fall where the interval lies, a claim that survives its control is an error, and no claim moves unseen."""

import copy
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from replication import claims
from replication.claims import (
    Verdict,
    amend,
    amendments,
    check_lock,
    claim_hash,
    compare,
    counted_as,
    exit_status,
    judge,
    lock_new,
    seeds_for_power,
)
from replication.errors import ReplicationError
from replication.files.atomic import canonical_json, write_json
from replication.pipeline import configs, judging
from replication.schema.claims import Claim, Expectation

INSIDE, ACROSS, OUTSIDE = [-1.0, -1.1, -0.9], [-1.0, 0.5, 0.1], [1.0, 1.1, 0.9]
BELOW = {"rule": "below", "bound": 0.0, "basis": "published"}


def expectation(**changes: Any) -> Expectation:
    return Expectation.model_validate(BELOW | changes)


def between(low: float, high: float) -> Expectation:
    return expectation(rule="between", low=low, high=high, bound=None)


def claim(**changes: Any) -> Claim:
    published = {"value": "all negative", "where": "Figure 5", "trust": "secondary"}
    control = {"quantity": "total_shuffled", "breaks": "gradients shuffled"}
    plain = {"id": "LCA-C1", "statement": "It falls.", "kind": "value", "published": published, "quantity": "total", "control": control}
    return Claim.model_validate(plain | {"expect": BELOW} | changes, context={"scale": "full"})


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def judged(values: list[float], control: list[float] = OUTSIDE, *, may_be_absent: bool = False, **changes: Any) -> Verdict:
    quantities = {"total": by_seed(values), "total_shuffled": by_seed(control)}
    return judge(claim(**changes), {name: estimates for name, estimates in quantities.items() if estimates}, may_be_absent=may_be_absent)


# Comparing with the acceptance region


@pytest.mark.parametrize(
    ("estimates", "expect", "outcome"),
    [
        (INSIDE, expectation(), "reproduced"),
        (ACROSS, expectation(), "inconclusive"),
        (OUTSIDE, expectation(), "not_reproduced"),
        (OUTSIDE, expectation(rule="above"), "reproduced"),
        (INSIDE, expectation(rule="above"), "not_reproduced"),
        (OUTSIDE, between(0.5, 1.5), "reproduced"),
        (OUTSIDE, between(0.99, 1.5), "inconclusive"),
        (OUTSIDE, between(0.99, 1.01), "inconclusive"),
        (OUTSIDE, between(1.5, 2), "not_reproduced"),
        (OUTSIDE, between(-2, 0.5), "not_reproduced"),
        ([0.0, 0.0], expectation(), "not_reproduced"),
        ([0.0, 0.0], expectation(rule="above"), "not_reproduced"),
    ],
)
def test_the_outcome_is_where_the_interval_lies(estimates: list[float], expect: Expectation, outcome: str) -> None:
    assert compare(estimates, expect)[0] == outcome


def test_an_inconclusive_outcome_says_how_many_seeds_would_decide() -> None:
    outcome, reason = compare([-1.0, 0.5, -0.3], expectation())
    matched = re.fullmatch(r"interval across the edge; about (\d+) seeds would decide with probability 0.9", reason)
    assert outcome == "inconclusive"
    assert matched
    assert int(matched[1]) == seeds_for_power([-1.0, 0.5, -0.3], (-math.inf, 0.0))
    assert "more seeds than can be trained would decide" in compare([-1.0, 1.0], expectation())[1]


def test_one_seed_decides_nothing() -> None:
    assert compare([-5.0], expectation()) == ("inconclusive", "one seed gives no interval; two or more are needed")


def test_an_identity_holds_for_every_seed_or_not_at_all() -> None:
    assert compare([-5.0], expectation(), exact=True)[0] == "reproduced"
    assert compare([-5.0, -0.001], expectation(), exact=True)[0] == "reproduced"
    assert compare([-5.0, 0.0], expectation(), exact=True) == ("not_reproduced", "1 of 2 seeds outside")
    assert judged([-9.0, -1.0], kind="identity").outcome == "reproduced"
    assert judged([-9.0, 1.0], kind="identity").outcome == "not_reproduced"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("exact", [True, False])
def test_a_diverged_seed_is_an_error_and_never_dropped(bad: float, exact: bool) -> None:
    assert compare([-1.0, bad, -1.0], expectation(), exact=exact) == ("error", "1 of 3 seeds gave a non-finite estimate")


ESTIMATES = st.lists(st.floats(-10, 10), min_size=1, max_size=6)
EDGES = st.lists(st.floats(-10, 10), min_size=4, max_size=4, unique=True).map(sorted)


@given(estimates=ESTIMATES, edges=EDGES, exact=st.booleans())
def test_a_tighter_region_never_makes_a_claim_hold(estimates: list[float], edges: list[float], exact: bool) -> None:
    wide, tight = between(edges[0], edges[3]), between(edges[1], edges[2])
    loose = compare(estimates, wide, exact=exact)[0]
    strict = compare(estimates, tight, exact=exact)[0]
    if loose == "not_reproduced":
        assert strict == "not_reproduced"
    if strict == "reproduced":
        assert loose == "reproduced"


@given(estimates=ESTIMATES, bound=st.floats(-10, 10))
def test_a_claim_and_its_opposite_never_both_hold(estimates: list[float], bound: float) -> None:
    outcomes = [compare(estimates, expectation(rule=rule, bound=bound))[0] for rule in ("below", "above")]
    assert outcomes.count("reproduced") < 2
    assert ("reproduced" in outcomes) <= ("not_reproduced" in outcomes)


# Judging


def test_a_verdict_says_all_there_is_to_say() -> None:
    verdict = judged(INSIDE, expect=BELOW | {"basis": "judgement", "note": "Only the sign can be read."}, unit="loss", ci=True)
    assert (verdict.outcome, verdict.reason, verdict.control) == ("reproduced", "interval inside", "not_reproduced")
    assert (verdict.required, verdict.ci, verdict.unit, verdict.trust) == (True, True, "loss", "secondary")
    assert verdict.published == "all negative (Figure 5)"
    assert verdict.estimates == {"0": -1.0, "1": -1.1, "2": -0.9}
    assert verdict.mean == pytest.approx(-1)
    assert verdict.control_mean == pytest.approx(1)
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < -1.0 < verdict.high < 0
    assert (verdict.region, verdict.basis) == ("below 0", "judgement: Only the sign can be read.")
    assert (
        judged(OUTSIDE, INSIDE, expect=BELOW | {"rule": "between", "low": 0.5, "high": 1.5, "bound": None}).region == "between 0.5 and 1.5"
    )


@pytest.mark.parametrize("values", [INSIDE, ACROSS, [-1.0], [], [math.nan, 1.0], [math.inf, 1.0]])
def test_every_verdict_can_be_written_as_json(tmp_path: Path, values: list[float]) -> None:
    write_json(tmp_path / "verdict.json", vars(judged(values)))
    assert json.loads((tmp_path / "verdict.json").read_text())["id"] == "LCA-C1"


def test_a_claim_that_also_holds_for_its_control_is_an_error() -> None:
    verdict = judged(INSIDE, INSIDE)
    assert verdict.outcome == "error"
    assert "gradients shuffled" in verdict.reason
    assert verdict.control == "reproduced"
    assert exit_status([verdict]) == 2


def test_a_control_that_holds_does_not_hide_a_claim_that_does_not() -> None:
    assert judged(OUTSIDE, INSIDE).outcome == "not_reproduced"
    assert judged(ACROSS, INSIDE).outcome == "inconclusive"


def test_a_control_that_holds_by_chance_leaves_its_claim_undecided() -> None:
    """At 90 % one control in twenty with its mean on the edge holds."""
    by_chance = [-0.4, -0.5, -0.2]
    assert compare(by_chance, expectation())[0] == "reproduced"
    assert compare(by_chance, expectation(), level=0.99)[0] == "inconclusive"
    verdict = judged(INSIDE, by_chance)
    assert (verdict.outcome, verdict.control) == ("inconclusive", "reproduced")
    assert "may hold with the mechanism broken too (gradients shuffled)" in verdict.reason
    assert exit_status([verdict]) == 0


@pytest.mark.parametrize("control", [OUTSIDE, ACROSS])
def test_a_claim_stands_when_its_control_falls(control: list[float]) -> None:
    assert judged(INSIDE, control).outcome == "reproduced"


def test_a_control_that_was_not_or_cannot_be_judged_proves_nothing() -> None:
    missing, infinite = judged(INSIDE, []), judged(INSIDE, [-math.inf, -1.0])
    assert (missing.outcome, missing.reason) == ("error", "no estimate of its control total_shuffled was made")
    assert infinite.outcome == "error"
    assert "control total_shuffled cannot be judged: 1 of 2 seeds" in infinite.reason
    assert judged(INSIDE, [], may_be_absent=True).outcome == "not_evaluated"


def test_a_quantity_that_was_not_made_is_an_error_unless_it_may_be_absent() -> None:
    assert (judged([]).outcome, judged([]).reason) == ("error", "no estimate of total was made")
    assert judged([], may_be_absent=True).outcome == "not_evaluated"
    assert judged(INSIDE, may_be_absent=True).outcome == "reproduced"


def test_a_withdrawn_claim_gates_nothing() -> None:
    verdict = judged(OUTSIDE, withdrawn="The figure was misread.")
    assert (verdict.outcome, verdict.reason, verdict.required) == ("withdrawn", "The figure was misread.", False)
    assert exit_status([verdict]) == 0


def test_a_claim_without_expectation_is_shown_and_not_judged() -> None:
    verdict = judged(INSIDE, expect=None, not_evaluated="too few images")
    assert (verdict.outcome, verdict.reason, verdict.required, verdict.region) == ("not_evaluated", "too few images", False, "")
    assert verdict.mean == pytest.approx(-1)
    assert exit_status([verdict]) == 0


def test_a_known_discrepancy_is_told_with_its_hypothesis() -> None:
    verdict = judged(OUTSIDE, discrepancy={"interval": [0.9, 1.1], "evidence": "Ten seeds.", "hypothesis": "Another learning rate."})
    assert (verdict.outcome, verdict.discrepancy) == ("not_reproduced", "Ten seeds. Hypothesis: Another learning rate.")
    assert counted_as(verdict) == "known discrepancy"


@pytest.mark.parametrize("interval", [[-0.1, 0.9], [-1.0, -0.5]])
def test_a_known_discrepancy_rests_on_a_decided_verdict(interval: list[float]) -> None:
    with pytest.raises(ValidationError, match="interval is not outside of the acceptance region; an undecided claim has none"):
        claim(discrepancy={"interval": interval, "evidence": "Three seeds.", "hypothesis": "Noise."})
    assert claim(expect=None, not_evaluated="too few", discrepancy={"interval": interval, "evidence": "E.", "hypothesis": "H."})


# Exit status

BAD = {"not_reproduced": 1, "inconclusive": 0, "not_evaluated": 0, "error": 2, "reproduced": 0, "withdrawn": 0}


def verdict(outcome: str, *, required: bool = True, ci: bool = False, discrepancy: str = "") -> Verdict:
    made = vars(judged(INSIDE)) | {"outcome": outcome, "required": required, "ci": ci, "discrepancy": discrepancy}
    return Verdict(**made)


@pytest.mark.parametrize("outcome", BAD)
@pytest.mark.parametrize("in_ci", [True, False])
def test_the_status_of_one_claim(outcome: str, in_ci: bool) -> None:
    assert exit_status([verdict(outcome, ci=in_ci)]) == BAD[outcome]
    assert exit_status([verdict(outcome, ci=in_ci, required=False)]) == 0
    in_ci_status = {"not_reproduced": 1, "error": 2}.get(outcome, 0) if in_ci else 0
    assert exit_status([verdict(outcome, ci=in_ci)], ci=True) == in_ci_status
    surprise = {"reproduced": 1, "error": 2}.get(outcome, 0)
    assert exit_status([verdict(outcome, ci=in_ci, discrepancy="known")]) == surprise
    assert exit_status([verdict(outcome, ci=in_ci, discrepancy="known")], ci=True) == (surprise if in_ci else 0)


@pytest.mark.parametrize("ci", [True, False])
def test_the_status_of_several_claims_is_the_worst(ci: bool) -> None:
    for first, second in itertools.product(BAD, BAD):
        pair = [verdict(first, ci=True), verdict(second, ci=True)]
        assert exit_status(pair, ci=ci) == max(exit_status([each], ci=ci) for each in pair)
    assert exit_status([], ci=ci) == 0


# Lock

RAW = {"LCA-C1": {"id": "LCA-C1", "expect": {"full": {"bound": 0}}}, "LCA-C2": {"id": "LCA-C2", "expect": {"full": {"bound": 1}}}}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / claims.LOCK
    assert lock_new(RAW, path) == ["LCA-C1", "LCA-C2"]
    return path


def moved() -> dict[str, Any]:
    changed = copy.deepcopy(RAW)
    changed["LCA-C1"]["expect"]["full"]["bound"] = 0.5  # type: ignore[index]
    return changed


def test_locked_claims_pass_and_are_locked_once(lock: Path) -> None:
    before = lock.read_bytes()
    assert check_lock(RAW, lock) == set()
    assert lock_new(RAW, lock) == []
    assert lock.read_bytes() == before
    entry = json.loads(before)["LCA-C1"]
    assert entry["claim"] == RAW["LCA-C1"]
    assert entry["sha256"] == claim_hash(RAW["LCA-C1"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry["locked"])


def test_a_new_claim_must_be_locked(lock: Path, tmp_path: Path) -> None:
    more = RAW | {"LCA-C3": {"id": "LCA-C3"}}
    with pytest.raises(ReplicationError, match=r"Claim LCA-C3 is not in .*; run `replicate lock` before its evaluation seeds run\.\Z"):
        check_lock(more, lock)
    assert lock_new(more, lock) == ["LCA-C3"]
    assert check_lock(more, lock) == set()
    with pytest.raises(ReplicationError, match=r"Claim LCA-C1 is not in .*none"):
        check_lock(RAW, tmp_path / "none")


def test_a_claim_locked_when_its_figure_has_results_is_post_hoc(lock: Path) -> None:
    more = RAW | {"LCA-C3": {"id": "LCA-C3"}, "LCA-C4": {"id": "LCA-C4"}}
    assert lock_new(more, lock, with_results={"LCA-C1", "LCA-C4"}) == ["LCA-C3", "LCA-C4"]
    assert check_lock(more, lock) == {"LCA-C4"}
    (text,) = amendments(lock)["LCA-C4"]
    assert text.endswith("results had been seen: locked when its figure had results")


def test_a_changed_claim_needs_an_amendment_at_whatever_scale_it_changed(lock: Path) -> None:
    with pytest.raises(
        ReplicationError, match=r'Claim LCA-C1 differs from .*replicate amend LCA-C1 --reason "..." --results-seen yes\|no`\.\Z'
    ):
        check_lock(moved(), lock)
    assert lock_new(moved(), lock) == []
    with pytest.raises(ReplicationError, match="LCA-C1 differs"):
        check_lock(moved(), lock)


def test_a_deleted_claim_must_come_back(lock: Path) -> None:
    with pytest.raises(ReplicationError, match=r"Claim LCA-C2 was deleted.*say under withdrawn why it does not count\.\Z"):
        check_lock({"LCA-C1": RAW["LCA-C1"]}, lock)


def test_a_discrepancy_is_a_finding_and_no_change(lock: Path) -> None:
    with_discrepancy = copy.deepcopy(RAW)
    with_discrepancy["LCA-C1"]["discrepancy"] = {"evidence": "Ten seeds.", "hypothesis": "Another rate."}
    assert check_lock(with_discrepancy, lock) == set()


@pytest.mark.parametrize("results_seen", [True, False])
def test_an_amendment_is_recorded_and_post_hoc_for_ever(lock: Path, results_seen: bool) -> None:
    changed = moved()
    amend("LCA-C1", changed["LCA-C1"], lock, reason="The figure was misread.", results_seen=results_seen)
    (change,) = json.loads(lock.read_text())["LCA-C1"]["amendments"]
    assert change == change | {"reason": "The figure was misread.", "results_seen": results_seen}
    assert (change["old"], change["new"]) == (RAW["LCA-C1"], changed["LCA-C1"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", change["date"])
    assert check_lock(changed, lock) == {"LCA-C1"}
    knowing = "results had been seen" if results_seen else "no result had been seen"
    assert amendments(lock) == {"LCA-C1": [f"{change['date']}, {knowing}: The figure was misread."]}
    with pytest.raises(ReplicationError, match="LCA-C1 differs"):
        check_lock(RAW, lock)
    amend("LCA-C1", RAW["LCA-C1"], lock, reason="It was right after all.", results_seen=True)
    assert [each["reason"] for each in json.loads(lock.read_text())["LCA-C1"]["amendments"]] == [
        "The figure was misread.",
        "It was right after all.",
    ]
    assert check_lock(RAW, lock) == {"LCA-C1"}


def test_an_amendment_needs_a_locked_claim_and_a_reason(lock: Path) -> None:
    before = lock.read_bytes()
    with pytest.raises(ReplicationError, match=r"Claim LCA-C9 is not in .*; allowed: LCA-C1, LCA-C2\.\Z"):
        amend("LCA-C9", {}, lock, reason="why", results_seen=False)
    with pytest.raises(ReplicationError, match=r"amendment of claim LCA-C1 has no reason.*\.\Z"):
        amend("LCA-C1", moved()["LCA-C1"], lock, reason=" ", results_seen=False)
    assert lock.read_bytes() == before


@given(changed=st.fixed_dictionaries({"bound": st.integers(-3, 3) | st.floats(-3, 3), "note": st.text(max_size=3)}))
def test_any_change_of_a_claim_changes_its_hash_and_the_order_of_keys_does_not(changed: dict[str, Any]) -> None:
    plain = {"bound": 0, "note": ""}
    same = canonical_json(changed) == canonical_json(plain)
    assert (claim_hash(changed) == claim_hash(plain)) == same
    assert claim_hash(dict(reversed(changed.items()))) == claim_hash(changed)


def test_the_committed_lock_matches_the_committed_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    path = configs.FOLDER / claims.LOCK
    entries = json.loads(path.read_text())
    amended = check_lock(judging.raw_claims(), path)
    assert amended == {claim_id for claim_id, entry in entries.items() if entry["amendments"]}
    for entry in entries.values():
        assert claim_hash(entry["claim"]) == entry["sha256"]
        assert all(change["reason"] and change["old"] != change["new"] for change in entry["amendments"])
