"""Losses by name and by module divide as torch's mean divides; accuracy is there only where it is defined."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from autograd_oracle import IMAGES, X, Y, assert_equal, built
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.stiffness import gram

IGNORED = torch.where(torch.arange(60) % 2 == 0, -100, Y)
SHARES = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
MASKS = torch.randint(0, 4, (30, 6, 6), generator=torch.Generator().manual_seed(1))
SOME_MASKS = torch.where(torch.rand(30, 6, 6, generator=torch.Generator().manual_seed(2)) < 0.3, 255, MASKS)
WEIGHTS = torch.tensor([0.2, 1.0, 2.0])


def scores() -> nn.Module:
    return built(lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)))


def one() -> nn.Module:
    return built(lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)))


def pixels() -> nn.Module:
    return built(lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 1)))


def log_scores() -> nn.Module:
    return nn.Sequential(scores(), nn.LogSoftmax(1))


CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "ignored labels": (scores(), X, IGNORED, "cross_entropy"),
    "own ignored label": (scores(), X, Y, nn.CrossEntropyLoss(ignore_index=1)),
    "class weights": (scores(), X, Y, nn.CrossEntropyLoss(weight=WEIGHTS)),
    "weights and ignored": (scores(), X, IGNORED, nn.CrossEntropyLoss(weight=WEIGHTS)),
    "smoothing": (scores(), X, Y, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "smoothing, weights and ignored": (scores(), X, IGNORED, nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1)),
    "shares": (scores(), X, SHARES, "cross_entropy"),
    "shares and weights": (scores(), X, SHARES, nn.CrossEntropyLoss(weight=WEIGHTS)),
    "pixels": (pixels(), IMAGES, MASKS, "cross_entropy"),
    "pixels ignored": (pixels(), IMAGES, SOME_MASKS, nn.CrossEntropyLoss(ignore_index=255)),
    "small integers": (scores(), X, Y.to(torch.uint8), "cross_entropy"),
    "nll": (log_scores(), X, IGNORED, "nll"),
    "nll, weights": (log_scores(), X, Y, nn.NLLLoss(weight=WEIGHTS)),
    "mse": (scores(), X, SHARES, "mse"),
    "mse, targets without axis": (one(), X, X[:, 0], "mse"),
    "l1": (scores(), X, SHARES, "l1"),
    "huber": (scores(), X, SHARES, nn.HuberLoss(delta=0.3)),
    "smooth l1": (scores(), X, SHARES, "smooth-l1"),
    "bce": (nn.Sequential(one(), nn.Sigmoid()), X, (X[:, :1] > 0).long(), "bce"),
    "bce with logits": (one(), X, (X[:, 0] > 0), "BCEWithLogitsLoss"),
    "positive weight": (one(), X, (X[:, 0] > 0), nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]))),
    "kl": (log_scores(), X, SHARES, nn.KLDivLoss(reduction="batchmean")),
}
ALIASES = {"cross_entropy": nn.CrossEntropyLoss(), "nll": nn.NLLLoss(), "mse": nn.MSELoss(), "l1": nn.L1Loss(), "bce": nn.BCELoss()}
ALIASES |= {"smooth-l1": nn.SmoothL1Loss(), "BCEWithLogitsLoss": nn.BCEWithLogitsLoss()}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("chunk", [None, 7])
def test_means_are_those_of_torch(kind: str, chunk: int | None) -> None:
    model, inputs, labels, loss = CASES[kind]
    module = ALIASES[loss] if isinstance(loss, str) else loss

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        if getattr(module, "weight", None) is not None:
            module.weight = module.weight.to(outputs.dtype)
        if isinstance(module, nn.CrossEntropyLoss | nn.NLLLoss):
            targets = targets.to(outputs.dtype) if targets.is_floating_point() else targets.long()
        else:
            targets = targets.to(outputs.dtype).view_as(outputs)
        return module(outputs, targets)

    assert_equal(model, inputs, labels, mean=mean, loss=loss, chunk=chunk)


@pytest.mark.parametrize(
    ("loss", "labels", "words"),
    [
        ("hinge", Y, "The loss 'hinge' is unknown; allowed: cross_entropy, nll, mse"),
        (None, Y, "The loss is a NoneType; allowed"),
        (nn.MSELoss(reduction="sum"), SHARES, "MSELoss sums over the examples"),
        (nn.MSELoss(), SHARES[:, :2], r"outputs of shape \(32, 3\) and targets of shape \(32, 2\)"),
        (nn.MSELoss(), Y, r"outputs of shape \(32, 3\) and targets of shape \(32,\)"),
        ("cross_entropy", Y + 1, "a label 3, and the network has 3 outputs"),
        ("cross_entropy", Y - 1, "a label -1"),
        ("cross_entropy", Y.float(), r"shape \(32,\) and type float32"),
        (F.cross_entropy, Y, r"loss of 32 examples has shape \(\)"),
        (lambda o, t: 3.0, Y, "has shape float"),
        (lambda o, t: o[:, 7], Y, "loss cannot be computed from the network's outputs"),
    ],
)
def test_losses_that_do_not_fit_are_one_sentence(loss: Any, labels: Tensor, words: str) -> None:
    with pytest.raises(ReplicationError, match=words):
        Objective(scores(), X, labels, loss=loss)


def test_a_loss_without_second_derivative_is_one_sentence() -> None:
    model = scores()
    objective = Objective(model, X, Y, loss=nn.MultiMarginLoss())
    theta = objective.parameters()
    assert objective.value(theta) == pytest.approx(F.multi_margin_loss(model(X), Y).item(), rel=1e-6)
    with pytest.raises(ReplicationError, match="no second derivative"):
        objective.hessian_vector_product(theta, theta)


def test_accuracy_is_of_the_labelled_examples() -> None:
    model = scores()
    objective = Objective(model, X, IGNORED)
    labelled = IGNORED >= 0
    expected = (model(X).argmax(1) == IGNORED)[labelled].float().mean().item()
    assert objective.evaluate(objective.parameters()).accuracy == pytest.approx(expected)


def binary(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.float(), reduction="none")


@pytest.mark.parametrize(
    ("model", "labels", "loss"),
    [
        (one(), (X[:, 0] > 0).long(), binary),
        (scores(), SHARES, "cross_entropy"),
        (scores(), Y - 1, lambda o, t: (o[:, 0] - t).square()),
        (one(), X[:, 0], "mse"),
    ],
    ids=["one logit", "shares", "labels from -1", "regression"],
)
def test_accuracy_that_is_not_defined_is_nan_unless_there_is_a_metric(model: nn.Module, labels: Tensor, loss: Any) -> None:
    objective = Objective(model, X, labels, loss=loss)
    assert math.isnan(objective.evaluate(objective.parameters()).accuracy)
    right = Objective(model, X, labels, loss=loss, metric=lambda outputs, targets: outputs[:, 0] > 0)
    assert right.evaluate(right.parameters()).accuracy == pytest.approx((model(X)[:, 0] > 0).float().mean().item())


def test_no_metric_is_nan_and_a_wrong_one_is_told() -> None:
    bare = Objective(scores(), X, Y, metric=None)
    assert math.isnan(bare.evaluate(bare.parameters()).accuracy)
    wrong = Objective(scores(), X, Y, metric=lambda outputs, labels: (outputs.argmax(1) == labels).float().mean())
    with pytest.raises(ReplicationError, match="metric has shape"):
        wrong.evaluate(wrong.parameters())


def test_standard_errors_with_ignored_labels_are_those_of_the_labelled_set() -> None:
    ignored, alone = Objective(scores(), X, IGNORED), Objective(scores(), X[IGNORED >= 0], IGNORED[IGNORED >= 0])
    first, second = (objective.evaluate(objective.parameters()) for objective in (ignored, alone))
    assert first.loss == pytest.approx(second.loss, rel=1e-6)
    assert first.standard_error == pytest.approx(second.standard_error, rel=0.02)  # n - 1 of another n


@pytest.mark.parametrize(("labels", "loss"), [(MASKS, "cross_entropy"), (IMAGES[:, :, 0, 0], "mse")])
def test_splitting_by_class_needs_one_label_per_example(labels: Tensor, loss: str) -> None:
    model = pixels() if loss == "cross_entropy" else nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    objective = Objective(model, IMAGES, labels, loss=loss)
    with pytest.raises(ReplicationError, match="splitting by class needs one class index per example"):
        objective.gradient_by_class(objective.parameters())


def test_ignored_labels_belong_to_no_class() -> None:
    objective = Objective(scores(), X, IGNORED, dtype=torch.float64)
    theta = objective.parameters()
    torch.testing.assert_close(objective.gradient_by_class(theta).sum(0), objective.gradient(theta))


def test_complex_parameters_are_refused_and_complex_buffers_stay() -> None:
    with pytest.raises(ReplicationError, match="Parameter 'weight' has type complex64"):
        Objective(nn.Linear(5, 3, dtype=torch.cfloat), X, Y)

    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(5, 3)
            self.register_buffer("phase", torch.exp(1j * torch.arange(3)))

        def forward(self, x: Tensor) -> Tensor:
            return (self.a(x) * self.phase).imag

    assert_equal(built(Spectrum), X, Y)


def test_a_loss_of_ones_own_has_an_accuracy_where_it_is_asked_for() -> None:
    def distance(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(-outputs, labels, reduction="none")  # the smallest output is the prediction

    model = scores()
    own = nn.utils.parameters_to_vector(model.parameters())
    assert math.isnan(Objective(model, X, Y, loss=distance).evaluate(own).accuracy)
    assert Objective(model, X, Y, loss=distance, metric="accuracy").evaluate(own).accuracy == Objective(model, X, Y).evaluate(own).accuracy


def test_a_loss_that_cuts_the_graph_has_values_and_no_gradient() -> None:
    def error(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.argmax(1) != labels).to(outputs.dtype)

    model = scores()
    objective = Objective(model, X, Y, loss=error)
    own = objective.parameters()
    assert 0 <= objective.value(own) <= 1
    with pytest.raises(ReplicationError, match="the loss function detaches them"):
        objective.gradient(own)
    with pytest.raises(ReplicationError, match="the loss function detaches them"):
        objective.hessian_vector_product(own, own)
    with pytest.raises(ReplicationError, match="the loss function detaches them"):
        gram(model, X, Y, loss=error)


def test_labels_that_a_loss_or_metric_changes_in_place_stay_as_they_are() -> None:
    def masking(outputs: Tensor, labels: Tensor) -> Tensor:
        counted = labels != 255
        labels[~counted] = 0
        return F.cross_entropy(outputs, labels, reduction="none") * counted

    def share(outputs: Tensor, labels: Tensor) -> Tensor:
        labels[labels == 255] = 0
        return (outputs.argmax(1) == labels).double()

    labels = Y.clone()
    labels[::3] = 255
    before, model = labels.clone(), scores()
    objective = Objective(model, X, labels, loss=masking, metric=share)
    own = objective.parameters()
    counted = labels != 255
    expected = (F.cross_entropy(model(X), labels.where(counted, torch.tensor(0)), reduction="none") * counted).mean().item()
    for _ in range(2):
        assert objective.value(own) == pytest.approx(expected, rel=1e-6)
        assert objective.evaluate(own).loss == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gram(model, X, labels, loss=masking)["total"], gram(model, X, labels, loss=masking, fast=False)["total"])
    assert torch.equal(labels, before)
