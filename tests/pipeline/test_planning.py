"""How many seeds the claims of drawn figures need: what `replicate power` prints."""

import re
from pathlib import Path

import pandas as pd
import pytest

from replication.claims.power import chance_to_hold, seeds_for_power
from replication.cli import main
from replication.errors import ReplicationError
from replication.files.provenance import provenance_file, write_provenance
from replication.pipeline import dag
from replication.pipeline.planning import claims_power
from replication.pipeline.request import measured_core_minutes

ESTIMATES = [-0.31, -0.02, -0.55]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Pilots of one figure: what it claims of MNIST-FC's layers, a control, and an identity's quantity."""
    values = {"mnist_fc_largest_layer_total": ESTIMATES, "mnist_fc_largest_layer_total_shuffled": [0.4, 0.5, 0.6], "other": [1.0, 2.0, 3.0]}
    stem = tmp_path / "reduced/lca/figures/lca_layers"
    stem.parent.mkdir(parents=True)
    file = stem.with_name("lca_layers.quantities.csv")
    rows = [(name, seed, value) for name, each in values.items() for seed, value in enumerate(each)]
    pd.DataFrame(rows, columns=["quantity", "seed", "value"]).to_csv(file, index=False)
    write_provenance(provenance_file(stem), {}, [file])
    return tmp_path


def test_a_claim_with_estimates_has_its_power(results: Path) -> None:
    (power,) = claims_power("reduced", results)
    assert (power.claim, power.figure, power.estimates) == ("LCA-C8", "lca_layers", tuple(ESTIMATES))
    assert power.outcome == "inconclusive"
    assert power.seeds_needed == seeds_for_power(ESTIMATES, power.expect.region)
    assert power.control_holds == chance_to_hold([0.4, 0.5, 0.6], power.expect.region, 3)
    assert power.minutes_per_seed == pytest.approx(
        measured_core_minutes()["reduced", "lca_layers"] / dag.n_seeds("reduced", "lca", "mnist_fc_lca")
    )


def test_figures_and_papers_can_be_chosen(results: Path) -> None:
    assert len(claims_power("reduced", results, ["lca"])) == len(claims_power("reduced", results, ["lca_layers"])) == 1
    with pytest.raises(ReplicationError, match=r"No such figure is drawn in .*; make it first"):
        claims_power("reduced", results, ["svcca"])
    with pytest.raises(ReplicationError, match="There is no figure or paper named 'lca_layer'"):
        claims_power("reduced", results, ["lca_layer"])


def test_the_command_prints_seeds_and_costs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["power", "lca", "--results", str(results)])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    needed = seeds_for_power(ESTIMATES, (-float("inf"), 0.0))
    assert needed is not None
    assert re.search(rf"LCA-C8 +inconclusive +-0\.293 \[.*\] +below 0 +3 +0\.\d\d +{needed} +\d+ +0\.00\n", text), text
    assert "1 claims; 1 have fewer seeds than a decision with probability 0.9 needs" in text
