"""The pages on what is recorded hold what the tables in recorded/ say."""

from pathlib import Path

import pytest
import recorded_tables

from replication.claims.verdicts import COUNTED, counted_as
from replication.errors import ReplicationError


@pytest.fixture(scope="module")
def figures() -> list[recorded_tables.Judged]:
    return recorded_tables.judged()


def test_the_pages_are_up_to_date() -> None:
    for page, text in recorded_tables.files().items():
        assert page.read_text(encoding="utf-8") == text, "run `python docs/recorded_tables.py`"


def test_every_recorded_figure_has_a_row_with_its_claims_and_what_it_waits_for(figures: list[recorded_tables.Judged]) -> None:
    rows = {line.split("`")[1]: line for line in recorded_tables.recording_table(figures).splitlines() if line.startswith("| `")}
    assert set(rows) == {each.name for each in figures}
    for each in figures:
        assert all(f"`{name}`" in rows[each.name] for name in each.missing)
        assert all(verdict.id in rows[each.name] for verdict in each.verdicts if verdict.outcome == "not_evaluated")
    assert "| 3 | 3 reproduced |" in rows["lca_integration_error"]
    assert rows["lca_integration_error"].endswith("`resnet20_lca` |")


def test_a_report_has_a_row_for_every_claim_that_was_evaluated(figures: list[recorded_tables.Judged]) -> None:
    of_lca = [each for each in figures if each.paper == "lca"]
    rows = recorded_tables.report_table(of_lca).splitlines()[2:]
    verdicts = [verdict for each in of_lca for verdict in each.verdicts if counted_as(verdict) in COUNTED[:4]]
    assert len(rows) == len(verdicts)
    (synchrony,) = [row for row in rows if row.startswith("| LCA-C13:")]
    assert "n = 3" in synchrony
    assert synchrony.endswith("reproduced |")
    assert recorded_tables.report_table([]) == "Nothing of this paper is recorded at full scale yet."


def test_a_page_without_markers_is_named() -> None:
    with pytest.raises(ReplicationError, match=r"x.md has no place for the table; put the lines <!-- recorded"):
        recorded_tables.between_markers("text", "table", (recorded_tables.BEGIN, recorded_tables.END), Path("x.md"))
