import json
from pathlib import Path

import pytest
from verdict_entries import ENTRY, PLACE, figure_verdicts

from replication.claims.page import page
from replication.claims.report import show_claims


def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], *changes: dict, ci: bool = False) -> tuple[int, str]:
    file = tmp_path / "figure.verdicts.json"
    file.write_text(json.dumps(PLACE | {"verdicts": [ENTRY | change for change in changes]}))
    return show_claims([file], ci=ci), capsys.readouterr().out


def test_a_row_has_estimates_region_trust_and_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = shown(tmp_path, capsys, {})
    assert status == 0
    parts = ("LCA-X1", "+ reproduced", "-1.25", "-1.5", "nan", "below 0", "recalled, not", "checked", "not_reproduced", "(0.5)", "full")
    for part in parts:
        assert part in text.replace("\n", " "), part
    assert "\n1 reproduced\n" in text


def test_what_fails_sets_the_status_and_the_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"outcome": "not_reproduced"}
    assert shown(tmp_path, capsys, {}, failed)[0] == 1
    assert shown(tmp_path, capsys, {"outcome": "error"})[0] == 2
    status, text = shown(tmp_path, capsys, {}, failed | {"ci": False}, ci=True)
    assert status == 0
    assert text.rstrip().endswith("1 claims, each from 3 seeds. No claim required at this scale is contradicted.")


def test_an_undecided_claim_does_not_fail_and_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = shown(tmp_path, capsys, {}, {"outcome": "inconclusive"})
    assert status == 0
    assert "1 reproduced, 1 inconclusive" in text
    assert "contradicted, 1 undecided at this number of seeds (`replicate power` says how many would decide)." in text
    status, text = shown(tmp_path, capsys, {}, {"outcome": "not_reproduced", "id": "LCA-X7"})
    assert (status, text.rstrip().splitlines()[-1].endswith("The opposite of what is expected was decided: LCA-X7.")) == (1, True)


def test_a_known_discrepancy_is_told_with_its_evidence_and_its_end_is_a_surprise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"discrepancy": "Off by 7 %. Hypothesis: noise."}
    status, text = shown(tmp_path, capsys, {"outcome": "not_reproduced"} | known)
    assert status == 0
    assert "~ known discrepancy" in text
    assert "LCA-X1, known discrepancy. Off by 7 %. Hypothesis: noise." in text
    assert "\n1 known discrepancy\n" in text
    status, text = shown(tmp_path, capsys, {"outcome": "inconclusive"} | known)
    assert status == 0
    assert "a known discrepancy, undecided here" in text
    assert "\n1 inconclusive\n" in text, "it is not counted as known"
    status, text = shown(tmp_path, capsys, known)
    assert status == 1
    assert "a known discrepancy that is gone: it is reproduced here" in text


def test_counts_are_the_same_in_the_terminal_and_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"outcome": "not_reproduced", "discrepancy": "Off. Hypothesis: noise."}
    changes = [{}, known, known, {"outcome": "not_reproduced"}, {"outcome": "inconclusive", "discrepancy": "Off. Hypothesis: noise."}]
    changes += [{"outcome": "error"}]
    rest = [{"outcome": outcome, "required": False} for outcome in ("not_evaluated", "withdrawn")]
    _, text = shown(tmp_path, capsys, *changes, *rest)
    counts = "1 reproduced, 2 known discrepancies, 1 not reproduced, 1 inconclusive"
    assert f"\n{counts}, 1 not evaluated, 1 withdrawn, 1 error\n" in text
    figure = figure_verdicts(*({"id": f"LCA-X{place}"} | change for place, change in enumerate([*changes, *rest])))
    assert f"8 claims at scale full. 6 of them are required to hold there: {counts}, 1 error." in " ".join(
        page([(figure, "x.png")]).split()
    )
