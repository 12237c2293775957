"""A copy of the model must not read the user's own weights: closures, hooks, losses and views of a weight are refused by name."""

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.stiffness import gram

X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


def own_forward(model: nn.Sequential) -> None:
    old = model.forward
    model.forward = lambda x: 2 * old(x)


def wrapped_layer(model: nn.Sequential) -> None:
    layer = model[0]
    layer.forward = functools.wraps(layer.forward)(lambda x, f=layer.forward: f(x) + 1)


def hook(model: nn.Sequential) -> None:
    model[1].register_forward_hook(lambda module, inputs, output: output + model[0].bias)


def detached_hook(model: nn.Sequential) -> None:
    model[1].register_forward_hook(lambda module, inputs, output: output + model[0].bias.detach())


def hook_of_other_layer(model: nn.Sequential) -> None:
    model[0].register_forward_hook(lambda module, inputs, output: output + model[2].weight.sum())


@pytest.mark.parametrize("change", [own_forward, wrapped_layer, hook, detached_hook, hook_of_other_layer])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_reached_through_closures_and_hooks_are_refused(change: Callable[[nn.Sequential], None], dtype: torch.dtype) -> None:
    model = perceptron().eval().to(dtype)
    change(model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(ReplicationError, match="of your own model"):
        Objective(model, X, Y, dtype=dtype)
    with pytest.raises(ReplicationError, match="of your own model"):
        gram(model, X, Y, dtype=dtype)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_message_names_the_weight() -> None:
    model = perceptron()
    hook(model)
    with pytest.raises(ReplicationError, match="of your own model"):
        Objective(model, X, Y)


class Cached(nn.Module):
    """A method of the user's own object, kept by a cache that is not copied."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.doubled = functools.lru_cache(None)(self._doubled)

    def _doubled(self) -> Tensor:
        return 2 * self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.doubled().T


def test_a_cached_method_of_the_users_own_model_is_refused() -> None:
    for call in (lambda: Objective(Cached(), X, Y), lambda: gram(Cached(), X, Y, dtype=torch.float32)):
        with pytest.raises(ReplicationError, match=r"reads 'layer\.weight' of your own model"):
            call()


def test_a_gram_matrix_in_another_type_than_the_model_names_the_weight_too() -> None:
    model = perceptron().eval()
    own_forward(model)
    with pytest.raises(ReplicationError, match=r"reads '0\.weight' of your own model"):
        gram(model, X, Y)


def test_a_loss_that_reads_the_model_is_refused() -> None:
    model = perceptron()

    def penalised(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels, reduction="none") + 0.1 * model[0].weight.square().sum()

    class Penalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(outputs, labels, reduction="none") + 0.1 * self.model[0].weight.square().sum()

    with pytest.raises(ReplicationError, match=r"reads '0\.weight' of your own model"):
        Objective(model, X, Y, loss=penalised)
    with pytest.raises(ReplicationError, match=r"reads '0\.weight' of your own model"):
        gram(model.eval(), X, Y, loss=penalised)
    with pytest.raises(ReplicationError, match=r"loss module holds parameter '0\.weight'"):
        Objective(model, X, Y, loss=Penalised())


def test_an_attribute_that_is_a_view_of_a_weight_is_refused_only_where_it_is_read() -> None:
    class Viewing(nn.Module):
        def __init__(self, *, read: bool) -> None:
            super().__init__()
            self.a, self.read = nn.Linear(6, 3), read
            self.view = self.a.weight.data

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.view.T.to(x) if self.read else self.a(x)

    with pytest.raises(ReplicationError, match="Attribute 'view' shares the memory"):
        Objective(Viewing(read=True), X, Y)
    Objective(Viewing(read=False), X, Y)


def test_hooks_on_parameters_are_refused() -> None:
    model = perceptron()
    model[0].weight.register_hook(lambda gradient: 3 * gradient)
    for call in (lambda: Objective(model, X, Y), lambda: gram(model.eval(), X, Y)):
        with pytest.raises(ReplicationError, match=r"'0\.weight' has a hook"):
            call()


def test_examination_leaves_the_users_model_as_it_was() -> None:
    model = perceptron()
    output = model(X).sum()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    objective = Objective(model, X, Y)
    objective.gradient(objective.parameters())
    output.backward()  # the graph from before is still usable
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
