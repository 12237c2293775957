"""The loss is a function of the parameters and of one example at a time: what breaks this is found by evaluation and named."""

import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from autograd_oracle import IMAGES, X, Y, assert_equal, built, moved
from test_ordinary_networks import CenteredConvolution, Checkpointed, mlp
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.objective.vector import flatten

WIDE = torch.randn(64, 16, generator=torch.Generator().manual_seed(5)) * 3 + 1


class RandomInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(self.a(x).relu(), 0.5))


class Noisy(RandomInForward):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x + 1e-4 * torch.rand_like(x)))


class Counting(RandomInForward):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.b(self.a(x).relu()) * self.calls


@pytest.mark.parametrize("kind", [RandomInForward, Noisy, Counting])
def test_random_numbers_and_states_in_the_forward_pass_are_told(kind: type[nn.Module]) -> None:
    with pytest.raises(ReplicationError, match="Two evaluations of the same example at the same parameters give the losses"):
        Objective(built(kind), X, Y)


class Centred(nn.Module):
    """Examples interact without any batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x - x.mean(0))


class TimeMajor(nn.Module):
    """Takes the first axis for time."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.h = nn.LSTM(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.r(x)[0])


def contrastive(outputs: Tensor, _: Tensor) -> Tensor:
    unit = F.normalize(outputs)
    return F.cross_entropy(unit @ unit.T / 0.5, torch.arange(len(unit)), reduction="none")


def no_statistics() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU(), nn.Linear(8, 3))


COUPLED: dict[str, tuple[Any, Any, Any]] = {
    "batch norm without statistics": (no_statistics, Y, "cross_entropy"),
    "centred over the batch": (Centred, Y, "cross_entropy"),
    "time major": (TimeMajor, Y, "cross_entropy"),
    "contrastive loss": (lambda: nn.Linear(5, 3), Y, contrastive),
    "broadcast targets": (lambda: nn.Linear(5, 1), X[:, 0], lambda o, t: (o - t).square().mean(1)),
    "mean in the loss": (lambda: nn.Linear(5, 3), Y, lambda o, t: F.cross_entropy(o, t).expand(len(t))),
}


@pytest.mark.parametrize("kind", COUPLED)
def test_examples_that_influence_each_other_need_a_chunk(kind: str) -> None:
    build, labels, loss = COUPLED[kind]
    for chunk in (None, 7):
        with pytest.raises(ReplicationError, match=r"beside it .* divides the 60 examples" + (", and 7 does not" if chunk else "")):
            Objective(built(build), X, labels, loss=loss, chunk=chunk)


def test_a_given_chunk_defines_the_loss() -> None:
    model = built(no_statistics)
    objective = Objective(model, X, Y, chunk=20, dtype=torch.float64)
    theta = objective.parameters()
    double = model.double()
    expected = sum(F.cross_entropy(double(X[i : i + 20].double()), Y[i : i + 20]).item() for i in (0, 20, 40)) / 3
    assert objective.value(theta) == pytest.approx(expected, rel=1e-12)
    assert objective.evaluate(theta).loss == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(objective.gradient_by_class(theta).sum(0), objective.gradient(theta))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_recomputes_with_the_weights_of_the_point(reentrant: bool) -> None:
    plain, checkpointed = built(lambda: Checkpointed(None)), built(lambda: Checkpointed(reentrant))
    expected = Objective(plain, X, Y, dtype=torch.float64)
    objective = Objective(checkpointed, X, Y, dtype=torch.float64)
    theta = moved(plain)
    torch.testing.assert_close(objective.gradient(theta), expected.gradient(theta))
    torch.testing.assert_close(objective.gradient_by_class(theta), expected.gradient_by_class(theta))
    assert objective.evaluate(theta).loss == pytest.approx(expected.value(theta))
    if reentrant:
        with pytest.raises(ReplicationError, match="use_reentrant=False"):
            objective.hessian_vector_product(theta, theta)
    else:
        torch.testing.assert_close(objective.hessian_vector_product(theta, theta), expected.hessian_vector_product(theta, theta))


def test_a_convolution_with_its_own_arithmetic_keeps_it() -> None:
    model = built(lambda: nn.Sequential(CenteredConvolution(4, 8, 1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)))
    assert_equal(model, IMAGES, Y[:30])


def test_paths_say_what_is_taken_once_and_fast_false_forces_the_plain_one(caplog: pytest.LogCaptureFixture) -> None:
    hooked = mlp()
    hooked[1].register_forward_hook(lambda *_: None)
    with caplog.at_level(logging.INFO):
        objective = Objective(hooked, X, Y)
        for _ in range(2):
            objective.value(objective.parameters())
    assert [record.getMessage() for record in caplog.records if "Objective" in record.message] == [f"Objective: {objective.paths}"]
    assert (objective.paths.network, objective.paths.gradient, objective.paths.reason) == ("plain", "plain", "a hook")
    assert Objective(mlp(), X, Y).paths.gradient == "stacked"
    assert Objective(mlp(), X, Y, fast=False).paths.gradient == "plain"


def test_frozen_parameters_can_be_left_out() -> None:
    model = built(mlp)
    model[1].requires_grad_(False)  # type: ignore[index]
    whole = Objective(model, X, Y, dtype=torch.float64)
    gradient = whole.gradient(whole.parameters())
    for subset in ("trainable", ["3"], ["3.weight", "3.bias"], lambda name, parameter: name.startswith("3")):
        for fast in (True, False):
            part = Objective(model, X, Y, dtype=torch.float64, parameters=subset, fast=fast)
            assert [slot.name for slot in part.layout] == ["3.weight", "3.bias"]
            torch.testing.assert_close(part.gradient(part.parameters()), gradient[48:])
            assert part.evaluate(part.parameters()).loss == pytest.approx(whole.value(whole.parameters()))
            unit = torch.zeros(75, dtype=torch.float64)
            unit[50] = 1
            block = whole.hessian_vector_product(whole.parameters(), unit)[48:]
            torch.testing.assert_close(part.hessian_vector_product(part.parameters(), unit[48:]), block)
    for wrong, words in (("half", "allowed: 'all', 'trainable'"), (["3.wieght"], "did you mean '3.weight'"), (lambda *_: False, "None of")):
        with pytest.raises(ReplicationError, match=words):
            Objective(model, X, Y, parameters=wrong)


def test_weight_decay_is_part_of_the_loss() -> None:
    model = built(mlp)
    bare, decayed = (Objective(model, X, Y, dtype=torch.float64, weight_decay=decay) for decay in (0.0, 0.1))
    theta = moved(model)
    extra = 0.05 * theta.square().sum().item()
    assert decayed.value(theta) == pytest.approx(bare.value(theta) + extra)
    assert decayed.evaluate(theta).loss == pytest.approx(bare.value(theta) + extra)
    value, gradient = decayed.value_and_gradient(theta)
    assert value == pytest.approx(bare.value(theta) + extra)
    torch.testing.assert_close(gradient, bare.gradient(theta) + 0.1 * theta)
    torch.testing.assert_close(decayed.hessian_vector_product(theta, theta), bare.hessian_vector_product(theta, theta) + 0.1 * theta)
    with pytest.raises(ReplicationError, match="Weight decay belongs to no class"):
        decayed.gradient_by_class(theta)


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "bce_with_logits"])
def test_gauss_newton_and_fisher_equal_explicit_matrices(name: str) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2)))
    labels = torch.arange(60) % 2 if name == "cross_entropy" else (X[:, :2] > 0).float()
    objective = Objective(model, X, labels, loss=name, chunk=25, dtype=torch.float64)
    theta = moved(model)
    gauss_newton, empirical, model_fisher = explicit_matrices(model, labels, name, theta)
    identity = torch.eye(len(theta), dtype=torch.float64)
    torch.testing.assert_close(torch.stack([objective.gauss_newton_vector_product(theta, row) for row in identity]), gauss_newton)
    products = [objective.fisher_vector_product(theta, row, empirical=True) for row in identity]
    torch.testing.assert_close(torch.stack(products), empirical)
    if name == "cross_entropy":
        torch.testing.assert_close(torch.stack([objective.fisher_vector_product(theta, row) for row in identity]), model_fisher)
    elif name == "mse":
        with pytest.raises(ReplicationError, match="or empirical=True"):
            objective.fisher_vector_product(theta, theta)


def explicit_matrices(model: nn.Module, labels: Tensor, name: str, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over examples of J^T H J, of g g^T and of E[g g^T], each by autograd on single examples."""
    from replication.objective import write_parameters

    double = model.double()
    write_parameters(double, theta)
    parameters = list(double.parameters())
    losses = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss, "bce_with_logits": F.binary_cross_entropy_with_logits}
    loss = losses[name]
    matrices = [torch.zeros(len(theta), len(theta), dtype=torch.float64) for _ in range(3)]
    for x, label in zip(X.double(), labels if name == "cross_entropy" else labels.double(), strict=True):
        output = double(x[None])
        rows = [flatten(torch.autograd.grad(score, parameters, retain_graph=True)) for score in output[0]]
        jacobian = torch.stack(rows)
        curvature = torch.autograd.functional.hessian(lambda out, label=label: loss(out[None], label[None]), output[0].detach())
        matrices[0] += jacobian.T @ curvature @ jacobian
        gradient = flatten(torch.autograd.grad(loss(output, label[None]), parameters, retain_graph=True))
        matrices[1] += gradient.outer(gradient)
        for number, probability in enumerate(output.detach().softmax(1)[0]):
            slope = flatten(torch.autograd.grad(F.cross_entropy(output, torch.tensor([number])), parameters, retain_graph=True))
            matrices[2] += probability * slope.outer(slope)
    return matrices[0] / len(X), matrices[1] / len(X), matrices[2] / len(X)
