"""Every instrument on what users bring: tables of features in float64, labels of other integer types, losses of their own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication import curvature, landscape, lca, svcca
from replication.activations import layer_outputs
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.stiffness import TOTAL, gram


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def plain(outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, outputs))


def normed() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        model(torch.randn(40, 5))
    return model.eval()


FEATURES = torch.randn(30, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
CASES = {
    "classes": (plain(), torch.arange(30) % 3, {}),
    "int32 labels": (plain(), (torch.arange(30) % 3).int(), {}),
    "batch norm and dropout": (normed(), torch.arange(30) % 3, {}),
    "regression": (plain(1), FEATURES.sum(1), {"loss": squared_error}),
}


@pytest.mark.parametrize("case", CASES)
def test_tables_of_features_go_through_every_instrument(case: str) -> None:
    model, labels, settings = CASES[case]
    objective = Objective(model, FEATURES, labels, **settings)
    theta = objective.parameters()
    value, gradient = objective.value_and_gradient(theta)
    plane = [landscape.random_direction(model, landscape.axis_generator(0, axis)) for axis in (0, 1)]
    surface = landscape.surface(objective, *plane, [-1, 0, 1], [-1, 0, 1])
    assert surface.query("alpha == 0 and beta == 0")["loss"].item() == pytest.approx(value, rel=1e-5)
    statistics = objective.buffers()  # they stay as they are along this path
    recorded = {"buffers": torch.stack([statistics, statistics])} if len(statistics) else {}
    steps = lca.along(objective, torch.stack([theta, theta - 0.1 * gradient]), **recorded).tables()["steps"]
    assert steps["lca"].sum() == pytest.approx((steps["loss_end"] - steps["loss_start"]).sum(), abs=1e-3)
    grams = gram(model, FEATURES, labels, **settings)
    assert grams[TOTAL].mean().sqrt().item() == pytest.approx(gradient.norm().item(), rel=1e-4), "the mean of products is that of gradients"
    smallest, largest = curvature.extreme_eigenvalues(objective)
    assert smallest < largest
    table = svcca.similarity_matrix(layer_outputs(model, FEATURES, ["0", str(len(model) - 1)]))
    assert np.isfinite(table["similarity"]).all()


def test_labels_that_are_no_class_indices_are_told() -> None:
    labels = torch.arange(30) % 3
    for wrong, words in (
        (labels[:, None], r"shape \((30|1), 1\) and type int64"),
        (labels.double(), r"shape \((30|1),\) and type float64"),
    ):
        for use in (lambda given: Objective(plain(), FEATURES, given), lambda given: gram(plain(), FEATURES, given)):
            with pytest.raises(ReplicationError, match=words):
                use(wrong)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda outputs, targets: (outputs[:, 0] - targets).square().mean(), r"\(\)"),
        (lambda outputs, targets: (outputs - targets).square(), r"\(30, 30\)"),
    ],
    ids=["mean over examples", "targets broadcast against outputs"],
)
def test_a_loss_that_is_not_one_per_example_is_no_wrong_number(loss: object, shape: str) -> None:
    with pytest.raises(ReplicationError, match=f"loss of 30 examples has shape {shape}; it must return one per example"):
        Objective(plain(1), FEATURES, FEATURES.sum(1), loss=loss)


def test_probabilities_of_classes_take_a_loss_of_their_own() -> None:
    shares = F.softmax(torch.randn(30, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=1)
    objective = Objective(plain(), FEATURES, shares, loss=lambda o, p: F.cross_entropy(o, p.to(o), reduction="none"))
    assert objective.value(objective.parameters()) > 0
