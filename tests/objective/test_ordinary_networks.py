"""Networks that people bring: values, gradients and products equal plain autograd on the model itself, or one sentence says why not.

The models are the kinds that tools of this sort get wrong: shortcuts that take a rewritten copy for the model.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from autograd_oracle import X, Y, assert_equal, built, moved
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from replication.objective import Objective, write_parameters
from replication.objective.vector import flatten


class UnusedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.aux, self.a = nn.Linear(5, 7), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x)


class FrozenBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.a(x).tanh()
        return self.b(hidden)


class Detached(FrozenBackbone):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x).tanh()
        return self.b(hidden) + self.b(hidden.detach() * 0.5)


class WeightData(FrozenBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.linear(x, self.a.weight.data, self.a.bias).tanh())


class SecondReading(nn.Module):
    """A weight before batch norm is read a second time, past its module."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.n, self.o = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(5, 3)
        for _ in range(5):
            self.n(2 * torch.randn(20, 4) + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(F.linear(self.n(self.e(x)).relu(), self.e.weight.t()).tanh())


class Tied(nn.Module):
    """Tied weights whose layers are called in another order than they are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.emb, self.c = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False), nn.Linear(5, 3)
        self.head.weight = self.emb.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.head(self.emb(x).tanh()))


class TiedTransposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.c = nn.Linear(5, 5, bias=False), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.linear(torch.tanh(self.e(x)), self.e.weight.T))


class ParametersInAList(nn.Module):
    """The forward pass reads its parameters from a list that is no ``ParameterList``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)
        self.pairs = [(self.a.weight, self.a.bias), (self.b.weight, self.b.bias)]

    def forward(self, x: Tensor) -> Tensor:
        for weight, bias in self.pairs:
            x = F.linear(x, weight, bias).tanh()
        return x


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope * 2


class OwnFunction(FrozenBackbone):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(StraightThrough.apply(self.a(x)))


class CenteredConvolution(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean((1, 2, 3), keepdim=True), bias)


class ScaledLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0.3


class Normalising(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - 0.5) / 0.25)


class WritesIntoInputs(FrozenBackbone):
    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.5).mul_(2)
        return self.b(self.a(x).tanh())


class StoresActivation(FrozenBackbone):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.a(x).tanh()
        return self.b(self.kept)


class SlopeOfItself(nn.Module):
    """As in physics-informed networks: the forward pass differentiates by its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.b(self.a(x).tanh()).sum(), x, create_graph=True)
        return slope[:, :3]


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.a, self.b, self.h, self.reentrant = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 3), reentrant

    def block(self, x: Tensor) -> Tensor:
        return torch.tanh(self.b(torch.tanh(self.a(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.block(x) if self.reentrant is None else checkpoint(self.block, x, use_reentrant=self.reentrant))


def mlp(kind: type[nn.Sequential] = nn.Sequential) -> nn.Sequential:
    return kind(nn.Flatten(), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def changed(change: Callable[[nn.Sequential], Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = mlp()
        change(model)
        return model.eval()

    return build


def prune_and_remove(model: nn.Sequential) -> None:
    for number in (1, 3):
        prune.l1_unstructured(model[number], "weight", 0.5)
        prune.remove(model[number], "weight")


def replace_forward(model: nn.Sequential) -> None:
    layer = model[1]
    layer.forward = lambda x: F.linear(x, layer.weight, layer.bias) * 2  # type: ignore[method-assign, arg-type]


def odd_flatten() -> nn.Module:
    return nn.Sequential(nn.Flatten(0, -2), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


PLAIN = {
    "unused layer": UnusedLayer,
    "backbone without gradient": FrozenBackbone,
    "detached branch": Detached,
    "weight.data": WeightData,
    "weight read twice": SecondReading,
    "tied": Tied,
    "tied transposed": TiedTransposed,
    "parameters in a list": ParametersInAList,
    "subclass of Sequential": lambda: mlp(Normalising),
    "subclass of Linear": lambda: nn.Sequential(nn.Flatten(), ScaledLinear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
    "forward hook": changed(lambda model: model[1].register_forward_hook(lambda m, i, o: o * 2)),
    "pre-hook": changed(lambda model: model[1].register_forward_pre_hook(lambda m, i: (i[0] + 1,))),
    "pruned, removed": changed(prune_and_remove),
    "pruned": changed(lambda model: prune.l1_unstructured(model[1], "weight", 0.5)),
    "spectral norm": changed(lambda model: parametrizations.spectral_norm(model[1])),
    "orthogonal": changed(lambda model: parametrizations.orthogonal(model[1])),
    "weight norm removed": changed(lambda model: nn.utils.remove_weight_norm(nn.utils.weight_norm(model[1]))),
    "writes into inputs": WritesIntoInputs,
    "stores an activation": StoresActivation,
    "slope of itself": SlopeOfItself,
    "checkpointed": lambda: Checkpointed(False),
    "flatten from the first axis": odd_flatten,
    "frozen": changed(lambda model: model[1].requires_grad_(False)),
    "GELU": lambda: nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:.*weight_norm.*:UserWarning")
@pytest.mark.parametrize("kind", PLAIN)
def test_vectors_in(kind: str) -> None:
    model = built(PLAIN[kind]).eval()
    before = copy.deepcopy(model.state_dict())
    assert_equal(model, X, Y)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradients_that_the_user_stops_are_zero() -> None:
    model = built(FrozenBackbone)
    objective = Objective(model, X, Y)
    gradient = objective.gradient(objective.parameters())
    assert gradient[:48].norm() == 0
    assert gradient[48:].norm() > 0


def test_own_backward_is_used() -> None:
    model = built(OwnFunction)
    objective = Objective(model, X, Y, dtype=torch.float64)
    theta = moved(model)
    double = copy.deepcopy(model).double()
    write_parameters(double, theta)
    F.cross_entropy(double(X.double()), Y).backward()
    expected = flatten(parameter.grad for parameter in double.parameters() if parameter.grad is not None)
    torch.testing.assert_close(objective.gradient(theta), expected, rtol=1e-10, atol=1e-12)
    assert objective.gradient(theta)[:40].norm() > 0
