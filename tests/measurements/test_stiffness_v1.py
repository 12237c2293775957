"""Version 1's protocol on known answers: saturated networks in both precisions, class means, crossings, and a tiny trained network."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from test_stiffness_measurements import trained
from torch import nn

from replication.data import Examples
from replication.errors import ReplicationError
from replication.measurements import stiffness_probe
from replication.measurements import stiffness_v1 as instrument
from replication.schema.stiffness import StiffnessV1Config


def two_classes(scale: float) -> tuple[nn.Module, Examples]:
    """A linear network that separates two classes by logits of plus and minus ``scale``, and three images of each class."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(scale * torch.eye(2))
    images = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [0.1, 1.0], [0.2, 1.0], [0.3, 1.0]])
    return model, Examples(images, torch.tensor([0, 0, 0, 1, 1, 1]))


def products(scale: float) -> tuple[instrument.Products, torch.Tensor]:
    model, probe = two_classes(scale)
    return instrument.products_of(model, probe), probe.labels


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def signs_of(products: instrument.Products, labels: torch.Tensor) -> pd.DataFrame:
    return instrument.summary(products, labels, draws()).query("kind == 'sign'").set_index("precision")


def test_before_saturation_all_precisions_agree() -> None:
    found, labels = products(1.0)
    torch.testing.assert_close(found["float32"].double(), found["exact"], rtol=1e-5, atol=0)
    torch.testing.assert_close(found["float64"], found["exact"], rtol=1e-12, atol=0)
    table = signs_of(found, labels)
    assert table["within"].eq(1).all()
    assert table["between"].eq(-1).all()
    assert table[["zero_gradients", "zero_within", "zero_between"]].eq(0).all(axis=None)


def test_a_saturated_network_has_no_stiffness_in_float32_and_all_of_it_without_rounding() -> None:
    """Logits about 200 apart: exp(-200) is zero in float32, and p - 1 in float64 as well, but not the other class's probability."""
    found, labels = products(250.0)
    assert (found["float32"] == 0).all()
    assert (found["exact"] != 0).all()
    table = signs_of(found, labels)
    assert table["within"].tolist() == [0, 1, 1]
    assert table["between"].tolist() == [0, 0, -1]
    assert table.loc["float32", ["zero_gradients", "zero_within", "zero_between"]].eq(1).all()
    agreement = instrument.agreement(found, labels).set_index("pairs")
    assert agreement["zero_share"].eq(1).all()
    assert agreement["exact_of_zeros"].tolist() == [1, -1]
    assert agreement[["float32", "float64", "exact"]].isna().all(axis=None)


def test_a_loss_without_cancellation_is_the_same_loss() -> None:
    outputs = torch.randn(20, 5, generator=draws(), dtype=torch.float64, requires_grad=True)
    labels = torch.arange(20) % 5
    ours, usual = instrument.cross_entropy_without_cancellation(outputs, labels), F.cross_entropy(outputs, labels, reduction="none")
    torch.testing.assert_close(ours, usual)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), outputs)[0] for loss in (ours, usual)))


def test_zeros_draw_the_mean_towards_zero_by_their_share() -> None:
    single = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, -1.0], [0.0, 2.0, 4.0, -1.0], [0.0, -1.0, -1.0, 1.0]])
    double = torch.tensor([[1.0, 1.0, 1.0, -1.0], [1.0, 1.0, 2.0, -1.0], [1.0, 2.0, 4.0, -1.0], [-1.0, -1.0, -1.0, 1.0]]).double()
    labels = torch.tensor([0, 0, 0, 1])
    given = {"float32": single, "exact": double}
    table = signs_of(given, labels)
    assert table["within"].tolist() == pytest.approx([(4 / 9 + 1) / 2, 1])
    assert table["between"].tolist() == pytest.approx([-2 / 3, -1])
    assert table["zero_gradients"].tolist() == [0.25, 0]
    agreement = instrument.agreement(given, labels).set_index("pairs")
    assert agreement.loc["within", ["float32", "exact", "exact_of_zeros"]].tolist() == [1, 1, 1]
    assert agreement.loc["within", "zero_share"] == 0.5


def test_a_product_that_is_not_finite_is_no_zero() -> None:
    assert instrument.signs(torch.tensor([[torch.nan, -2.0], [torch.inf, 0.0]])).isnan().tolist() == [[True, False], [True, False]]


def test_the_crossing_of_a_known_curve_is_the_size_of_the_domain() -> None:
    """Products that are positive where two images are closer than the cosine 0.4, and negative beyond."""
    angles = torch.linspace(0, torch.pi / 2, 120, dtype=torch.float64)
    images = torch.stack([angles.cos(), angles.sin()], 1)
    similarities = images @ images.T
    probe = stiffness_probe.Probe(images, torch.zeros(120, dtype=torch.int64), 120)
    table = stiffness_probe.curve(similarities - 0.4, probe, similarities, generator=draws())
    assert stiffness_probe.domain(table)["size"] == pytest.approx(0.6, abs=0.036)


def test_the_probe_holds_each_class_alike() -> None:
    labels = torch.tensor([0] * 30 + [1] * 5 + [2] * 9)
    probe = instrument.balanced_probe(Examples(torch.arange(44.0)[:, None], labels), 4, 3, seed=1)
    assert probe.labels.bincount().tolist() == [4, 4, 4]
    assert (labels[probe.images[:, 0].long()] == probe.labels).all()
    with pytest.raises(ReplicationError, match="Class 1 has 5 validation images and per_class is 6; make it smaller"):
        instrument.balanced_probe(Examples(torch.arange(44.0)[:, None], labels), 6, 3, seed=1)


def measured(run: object, **changes: object) -> dict[str, pd.DataFrame]:
    settings = {"instrument": "stiffness_v1", "runs": ["run"], "steps": [0, 20], "matrices": [0], "per_class": 4}
    config = StiffnessV1Config.model_validate(settings | changes)
    part = instrument.measure(config, [run], seed=0, part=0, progress=lambda _done, _all: None)  # type: ignore[list-item]
    return instrument.tables(config, [part])


def test_a_training_is_measured_on_its_validation_images(tmp_path: Path) -> None:
    stops = {"values": [2.2, 1e-9], "every": 5}
    run = trained(tmp_path, stop_at_losses=stops)
    tables = measured(run, losses=[2.2, 1e-9], training_loss=True, representations=["relu1"], super_classes="neighbours", permutations=50)
    assert set(tables) == {"losses", "summary", "agreement", "classes", "curves", "domains", "levels", "contrasts"}
    reached = run.steps_at_losses[2.2]
    assert tables["losses"]["step"].tolist() == [0, 20, reached]
    assert tables["losses"].loc[2, "train_loss"] <= 2.2
    assert tables["losses"]["images"].tolist() == [0, 400, 20 * reached]
    start = tables["classes"].pivot(index="class_1", columns="class_2", values="float64").to_numpy()
    np.testing.assert_array_equal(start, start.T)
    summary = tables["summary"].query("step == 0 and precision == 'float64' and kind == 'sign'").iloc[0]
    assert summary["within"] == pytest.approx(np.diag(start).mean())
    assert summary["between"] == pytest.approx(start[~np.eye(10, dtype=bool)].mean())
    assert set(tables["domains"]["representation"]) == {"input", "relu1"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"matrices": [5]}, r"keeps the class matrices of step 5, which is not one of its steps \[0, 20\]"),
        ({"matrices": [], "super_classes": "cifar100"}, "compares super_classes, for which it needs a step under matrices"),
    ],
)
def test_a_measurement_that_cannot_be_made_is_refused(changes: dict[str, object], sentence: str) -> None:
    settings = {"instrument": "stiffness_v1", "runs": ["run"], "steps": [0, 20], "per_class": 4}
    with pytest.raises(ValueError, match=sentence):
        StiffnessV1Config.model_validate(settings | changes)
