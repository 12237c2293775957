"""Plain autograd on the model itself, in float64, as the oracle of objectives; examples of several kinds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.objective import Objective, flat_parameters, write_parameters
from replication.objective.graphs import ExactWeightNorm
from replication.objective.inputs import call, convert
from replication.objective.networks import evaluation_copy
from replication.objective.vector import flatten

X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(30, 4, 6, 6, generator=torch.Generator().manual_seed(2))
TOKENS = torch.randint(0, 9, (40, 6), generator=torch.Generator().manual_seed(3))
Mean = Callable[[Any, Any], Tensor]


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def moved(model: nn.Module) -> Tensor:
    own = flat_parameters(model)
    return own + 0.1 * torch.randn(len(own), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def by_autograd(model: nn.Module, inputs: Any, labels: Any, mean: Mean, theta: Tensor) -> tuple[float, Tensor, Tensor]:
    """Value, gradient and Hessian times ones by plain autograd in float64 on a copy of the model."""
    double = evaluation_copy(model, dtype=torch.float64)
    write_parameters(double, theta)
    parameters = list(double.parameters())
    with ExactWeightNorm():
        loss = mean(call(double, convert(inputs, "cpu", torch.float64)), labels)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    total = sum(slope.sum() for slope in slopes)
    assert isinstance(total, Tensor)
    curved = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True) if total.requires_grad else slopes
    return loss.item(), flatten(slopes), flatten(curved) if total.requires_grad else torch.zeros(len(theta), dtype=torch.float64)


def assert_equal(model: nn.Module, inputs: Any, labels: Any, *, mean: Mean = F.cross_entropy, **settings: Any) -> Objective:
    theta = moved(model)
    value, gradient, product = by_autograd(model, inputs, labels, mean, theta)
    for fast in (True, False):
        objective = Objective(model, inputs, labels, dtype=torch.float64, fast=fast, **settings)
        assert objective.value(theta) == pytest.approx(value, rel=1e-10)
        torch.testing.assert_close(objective.gradient(theta), gradient, rtol=1e-8, atol=1e-10)
        assert objective.value_and_gradient(theta)[0] == pytest.approx(value, rel=1e-10)
        assert objective.evaluate(theta).loss == pytest.approx(value, rel=1e-10)
        torch.testing.assert_close(objective.hessian_vector_product(theta, torch.ones_like(theta)), product, rtol=1e-7, atol=1e-9)
    single = Objective(model, inputs, labels, **settings)
    assert single.evaluate(theta).loss == pytest.approx(value, rel=1e-4)
    torch.testing.assert_close(single.gradient(theta), gradient, rtol=2e-3, atol=2e-4)
    return single
