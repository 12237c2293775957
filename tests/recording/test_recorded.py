"""The recorded full-scale tables: undamaged, of the configuration that stands in paper_configs, and what their claims say."""

import importlib
from pathlib import Path

import pytest
from conftest import ROOT

from replication import claims
from replication.files.tables import read_tables
from replication.pipeline import configs, drawing
from replication.recording import keep
from replication.schema.papers import FigureConfig

FOLDERS = sorted((ROOT / "recorded").glob("*/*/seed*"))
PAPERS = configs.load("recorded", ROOT / "paper_configs")


def figures() -> list[tuple[str, str, FigureConfig]]:
    """Figures with at least one recorded measurement."""
    there = {(folder.parts[-3], folder.parts[-2]) for folder in FOLDERS}
    return [
        (paper, name, figure)
        for paper, config in PAPERS.items()
        for name, figure in config.figures.items()
        if any((paper, name) in there for name in (*figure.measurements, *figure.runs))
    ]


def name_of(folder: Path) -> str:
    return "/".join(folder.parts[-3:])


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_recorded_tables_are_undamaged_and_of_the_present_configuration(folder: Path) -> None:
    read_tables(folder)
    for training in keep.check(folder)["trainings"]:
        assert not training["data"]["content"].startswith("subset"), "full scale needs the whole data set"


def test_at_least_three_seeds_of_mnist_fc_are_recorded() -> None:
    assert len(list((ROOT / "recorded/lca/mnist_fc_lca").glob("seed*"))) >= 3


@pytest.mark.parametrize(("paper", "name", "figure"), figures(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_claim_that_holds_on_recorded_tables_falls_under_its_control(paper: str, name: str, figure: FigureConfig) -> None:
    tables, _ = drawing.load_tables([f for f in FOLDERS if f.parts[-3] == paper and f.parts[-2] in (*figure.measurements, *figure.runs)])
    found = importlib.import_module(f"figures.{name}").quantities(tables)
    quantities = {key: {int(seed): float(value) for seed, value in values.items()} for key, values in found.items()}
    for claim in figure.claims:
        verdict = claims.judge(claim, quantities, may_be_absent=True)
        assert claims.exit_status([verdict]) == 0, f"{claim.id}: {verdict.outcome}, {verdict.reason}"
        if verdict.outcome == "reproduced":
            assert verdict.control in ("not_reproduced", "inconclusive")


def test_a_withdrawn_claim_did_hold_under_its_control() -> None:
    """LCA-C8-size was withdrawn because of this; the evidence stays checked."""
    tables, _ = drawing.load_tables([folder for folder in FOLDERS if folder.parts[-2] == "mnist_fc_lca"])
    found = importlib.import_module("figures.lca_layers").quantities(tables)
    assert (found["mnist_fc_size_rank_correlation_shuffled"] == 1).all()
