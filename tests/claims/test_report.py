import json
from pathlib import Path

import pytest
from verdict_entries import ENTRY, PLACE

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
    assert "1 reproduced, 0 not_reproduced" in text


def test_what_fails_sets_the_status_and_the_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"outcome": "not_reproduced"}
    assert shown(tmp_path, capsys, {}, failed)[0] == 1
    assert shown(tmp_path, capsys, {"outcome": "error"})[0] == 2
    status, text = shown(tmp_path, capsys, {}, failed | {"ci": False}, ci=True)
    assert status == 0
    assert text.rstrip().endswith("1 claims, each from 3 seeds: no claim checked here fails.")


def test_a_known_discrepancy_is_told_with_its_evidence_and_its_end_is_a_surprise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"discrepancy": "Off by 7 %. Hypothesis: noise."}
    status, text = shown(tmp_path, capsys, {"outcome": "inconclusive"} | known)
    assert status == 0
    assert "(known discrepancy)" in text
    assert "Off by 7 %. Hypothesis: noise." in text
    assert "known discrepancies apart" in text
    assert shown(tmp_path, capsys, known)[0] == 1
