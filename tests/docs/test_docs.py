"""Pages whose content is written from the code; links are checked by the strict build (make docs)."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from replication.pipeline import configs


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", "docs/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_claim_has_its_row_on_its_paper_s_page(hooks: ModuleType) -> None:
    papers = configs.load("full")
    for name, config in papers.items():
        rows = re.findall(r"^\| ([A-Z]+-\S+) \|", hooks.claims_table(name), re.MULTILINE)
        assert rows == [claim.id for figure in config.figures.values() for claim in figure.claims]


def test_a_row_keeps_its_columns_whatever_the_text(hooks: ModuleType) -> None:
    for row in hooks.claims_table("lca").splitlines():
        if row.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_discrepancies_and_withdrawals_are_told(hooks: ModuleType) -> None:
    text = hooks.claims_table("lca")
    assert "**LAND-C13**: Rank correlation -0.10, -0.19 and -0.21 over eleven nets. *Hypothesis:*" in hooks.claims_table("landscape")
    assert "**LCA-C8-size** is withdrawn: Worthless as stated" in text


def test_the_place_is_filled_and_everything_else_is_left_alone(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown("a\n<!-- claims: lca -->\nb")
    assert page.startswith("a\n| claim |")
    assert page.endswith("\nb")
    assert hooks.on_page_markdown("<!-- claims: none_yet -->") == "No claim of this paper is locked yet."


def test_benchmarks_are_a_table_and_a_picture(hooks: ModuleType) -> None:
    measured = pd.read_csv(hooks.MEASURED)
    rows = [line for line in hooks.on_page_markdown("<!-- benchmarks -->").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(measured)
    picture = hooks.benchmarks_picture().decode()
    assert "<svg" in picture
    assert measured["machine"].iloc[0].split(",")[0] in picture


def test_every_paper_has_a_report_with_its_claims() -> None:
    for path in configs.paper_files():
        text = (Path("docs/reports") / f"{path.stem}.md").read_text(encoding="utf-8")
        assert f"<!-- claims: {path.stem} -->" in text
        for section in ("Scope", "Methodology", "Results", "What was easy", "What was difficult", "What differs"):
            assert f"## {section}" in text


def test_every_file_that_a_page_names_is_there() -> None:
    pages = [*Path("docs").rglob("*.md"), Path("README.md"), Path("CONTRIBUTING.md")]
    place = re.compile(
        r"(?<![\w/])(?:replication|tests|benchmarks|figures|docs|examples|paper_configs)/[\w./]+\.(?:py|md|yaml|json|jinja|csv|ipynb)\b"
    )
    made_up = re.compile(r"PAPER|PACKAGE|my_")
    missing = {
        (page.as_posix(), file) for page in pages for file in place.findall(page.read_text(encoding="utf-8")) if not Path(file).exists()
    }
    assert not {(page, file) for page, file in missing if not made_up.search(file)}
