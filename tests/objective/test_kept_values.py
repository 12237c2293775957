"""Networks that compute something from their weights once and keep it: one sentence, whoever called the network first."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from autograd_oracle import X, Y, built
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.stiffness import gram


class Keeping(nn.Module):
    """Divides by the norm of its first weight, which it computes in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.prepare()

    def prepare(self) -> None:
        pass

    def norm(self) -> Any:
        return self.first.weight.detach().norm()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)) / self.norm())


class Attribute(Keeping):
    def prepare(self) -> None:
        self.kept: Tensor | None = None

    def norm(self) -> Any:
        if self.kept is None:
            self.kept = super().norm()
        return self.kept


class WithGraph(Attribute):
    def norm(self) -> Any:
        if self.kept is None:
            self.kept = self.first.weight.norm()
        return self.kept


class Number(Keeping):
    def norm(self) -> Any:
        if not hasattr(self, "kept"):
            self.kept = super().norm().item()
        return self.kept


class Buffer(Keeping):
    def prepare(self) -> None:
        self.register_buffer("kept", None)

    def norm(self) -> Any:
        if self.kept is None:
            self.kept = super().norm()
        return self.kept


class Flag(Keeping):
    def prepare(self) -> None:
        self.register_buffer("kept", torch.ones(()))
        self.ready = False

    def norm(self) -> Any:
        if not self.ready:
            self.kept.copy_(super().norm())
            self.ready = True
        return self.kept


class Dictionary(Keeping):
    def prepare(self) -> None:
        self.kept: dict[str, Tensor] = {}

    def norm(self) -> Any:
        if "norm" not in self.kept:
            self.kept["norm"] = super().norm()
        return self.kept["norm"]


class Property(Keeping):
    @functools.cached_property
    def kept(self) -> Tensor:
        return self.first.weight.detach().norm()

    def norm(self) -> Any:
        return self.kept


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("kind", [Attribute, WithGraph, Number, Buffer, Flag, Dictionary, Property])
def test_a_kept_value_is_one_sentence(kind: type[nn.Module], called: bool) -> None:
    model = built(kind).eval()
    if called:
        model(X)
    before = copy.deepcopy({name: value for name, value in vars(model).items() if name == "kept" and kind is not WithGraph})
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ReplicationError, match=r"keeps a value|computed from the weights in the first call|Attribute 'kept'"):
            Objective(model, X, Y, dtype=dtype)
        with pytest.raises(ReplicationError):
            gram(model, X, Y, theta=torch.cat([p.detach().flatten() for p in model.parameters()]) * 1.1, dtype=dtype)
    assert {name: value for name, value in vars(model).items() if name in before} == before


class Recomputed(Keeping):
    def norm(self) -> Any:
        self.kept = self.first.weight.norm()
        return self.kept


class Constant(Keeping):
    """Keeps what does not depend on the weights, and has flags that mean something else."""

    def prepare(self) -> None:
        self.table: dict[int, Tensor] = {}
        self.scale, self.uses_table, self.factor = 2.0, True, torch.tensor(3.0)

    def norm(self) -> Any:
        if 8 not in self.table:
            self.table[8] = torch.linspace(1, 2, 8)
        return self.scale * (self.table[8].to(self.first.weight) if self.uses_table else 1.0) * self.factor


class Activations(Keeping):
    def norm(self) -> Any:
        self.scale = self.first.weight.norm()
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.first(x)
        return super().forward(x)


@pytest.mark.parametrize("kind", [Keeping, Recomputed, Constant, Activations])
@pytest.mark.parametrize("called", [False, True])
def test_values_of_every_pass_and_constants_may_be_kept(kind: type[nn.Module], called: bool) -> None:
    model = built(kind).eval()
    if called:
        model(X)
    for dtype in (torch.float32, torch.float64):
        objective = Objective(model, X, Y, dtype=dtype)
        torch.testing.assert_close(
            objective.value(objective.parameters()), nn.functional.cross_entropy(model(X), Y).item(), rtol=1e-5, atol=0
        )
        objective.hessian_vector_product(objective.parameters(), objective.parameters())


class ActNorm(nn.Module):
    """Sets its parameters in the first call, from the data."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.last, self.ready = nn.Parameter(torch.ones(5)), nn.Linear(5, 3), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.scale.data = 1 / x.std(0)
            self.ready = True
        return self.last(x * self.scale)


def test_parameters_that_the_forward_pass_sets_are_one_sentence() -> None:
    model = built(ActNorm)
    with pytest.raises(ReplicationError, match=r"keeps a value|changes the parameters"):
        Objective(model, X, Y)
    model(X)
    objective = Objective(model, X, Y)
    assert objective.value(objective.parameters()) == pytest.approx(nn.functional.cross_entropy(model(X), Y).item(), rel=1e-5)
    renormalised = nn.Sequential(nn.Embedding(9, 4, max_norm=0.5), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ReplicationError, match="changes the parameters"):
        Objective(renormalised, torch.arange(9)[:, None], torch.arange(9) % 3)


class Merging(nn.Module):
    """Adds an update to its weight when it is put into evaluation mode, as some low-rank adapters do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.update = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(3, 5))

    def train(self, mode: bool = True) -> "Merging":
        if self.training != mode:
            self.weight.data += self.update.data * (-1 if mode else 1)
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight + self.update if self.training else self.weight)


def test_weights_that_evaluation_mode_changes_are_one_sentence() -> None:
    model = built(Merging)
    for instrument in (Objective, gram):
        with pytest.raises(ReplicationError, match="evaluation mode changes parameter 'weight'"):
            instrument(model, X, Y)
    assert Objective(model.eval(), X, Y).n_parameters == 30


class Expanded(nn.Linear):
    """Computes its filter when it enters evaluation mode, as steerable convolutions do: in a buffer, or in an attribute."""

    def __init__(self, place: str) -> None:
        super().__init__(5, 3)
        self.place = place

    def expanded(self) -> Tensor:
        return self.weight.abs() + 0.5 * self.weight.flip(0)

    def train(self, mode: bool = True) -> "Expanded":
        if self.place == "buffer":
            self.register_buffer("filter", None if mode else self.expanded().detach(), persistent=False)
        else:
            self.filter = None if mode else self.expanded().detach()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.expanded() if self.training else self.filter.to(x.dtype), self.bias)


class Fused(nn.Module):
    """Keeps the product of its layers in evaluation mode: as a tuple, or in buffers with a flag that says whether they are filled."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.first, self.last, self.place, self.fused = nn.Linear(5, 6), nn.Linear(6, 3), place, None
        self.register_buffer("is_filled", torch.tensor(False))
        self.register_buffer("product", torch.zeros(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.last(self.first(x))
        product = (self.last.weight @ self.first.weight).detach()
        bias = self.last(self.first.bias)
        if self.place == "tuple":
            self.fused = self.fused or (product,)
            return F.linear(x, self.fused[0].to(x.dtype), bias)
        if not self.is_filled:
            self.product.copy_(product)
            self.is_filled.fill_(True)
        return F.linear(x, self.product, bias)


class Held:
    def __init__(self, product: Tensor) -> None:
        self.product = product


@pytest.mark.parametrize(
    ("keep", "read"),
    [
        (lambda product: [product], lambda kept: kept[0]),
        (lambda product: {"product": product}, lambda kept: kept["product"]),
        (lambda product: {"layer": {"product": product}}, lambda kept: kept["layer"]["product"]),
        (Held, lambda kept: kept.product),
        (lambda product: functools.partial(F.linear, weight=product), lambda kept: kept.keywords["weight"]),
        (lambda product: lambda: product, lambda kept: kept()),
    ],
    ids=["list", "dict", "nested", "object", "partial", "closure"],
)
def test_kept_values_are_found_in_any_container(keep: Callable[[Tensor], Any], read: Callable[[Any], Tensor]) -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.kept = nn.Linear(5, 6), nn.Linear(6, 3), None

        def forward(self, x: Tensor) -> Tensor:
            if self.kept is None:
                self.kept = keep((self.last.weight @ self.first.weight).detach())
            return F.linear(x, read(self.kept).to(x.dtype)) + self.last(torch.tanh(self.first(x)))

    model = built(Keeps).eval()
    model(X)
    with pytest.raises(ReplicationError, match="'kept' of a Keeps is computed from the weights"):
        Objective(model, X, Y)


@pytest.mark.parametrize("was_called", [True, False])
@pytest.mark.parametrize(("kind", "place"), [(Expanded, "buffer"), (Expanded, "attribute"), (Fused, "tuple"), (Fused, "flag")])
def test_weights_that_evaluation_mode_fuses_are_refused(kind: Callable[[str], nn.Module], place: str, was_called: bool) -> None:
    model = built(lambda: kind(place)).eval()
    if was_called:
        model(X)
    with pytest.raises(ReplicationError, match=r"kept|keep"):
        Objective(model, X, Y)
    if was_called:
        with pytest.raises(ReplicationError, match=r"kept|keep"):
            gram(model, X, Y)
