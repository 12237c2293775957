"""Products with second derivatives are right or refused: custom Functions, hooks and torch's own operations."""

from typing import Any

import pytest
import torch
import zoo
from autograd_oracle import X, Y, built
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.objective.vector import parameter_shapes, unflatten

PRODUCTS = ("hessian_vector_product", "gauss_newton_vector_product", "fisher_vector_product")


class Sine(torch.autograd.Function):
    """Right twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope * ctx.saved_tensors[0].cos()


class DetachedSlope(Sine):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope * ctx.saved_tensors[0].detach().cos()


class DetachedAll(Sine):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return (slope * ctx.saved_tensors[0].cos()).detach()


class Once(Sine):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope * ctx.saved_tensors[0].cos()


class ByNumpy(Sine):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return torch.from_numpy(slope.detach().numpy() * ctx.saved_tensors[0].detach().cos().numpy())


class StraightThrough(Sine):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope


class Reversal(Sine):
    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return -slope * ctx.saved_tensors[0].cos()


class Using(nn.Module):
    def __init__(self, function: Any, *, backbone: bool = False) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 3)
        self.function, self.backbone = function, backbone

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.backbone):
            x = torch.relu(self.first(x))
        return self.last(self.function.apply(self.middle(x)))


WRONG = {
    "hessian_vector_product": (DetachedSlope, DetachedAll, Once, ByNumpy, StraightThrough, Reversal),
    "gauss_newton_vector_product": (DetachedAll, Once, ByNumpy, StraightThrough, Reversal),
    "fisher_vector_product": (DetachedAll, Once, ByNumpy, StraightThrough, Reversal),
}


@pytest.mark.parametrize("method", PRODUCTS)
@pytest.mark.parametrize("empirical", [False, True])
def test_functions_without_a_right_second_derivative_are_refused(method: str, empirical: bool) -> None:
    settings = {"empirical": True} if empirical and method == "fisher_vector_product" else {}
    for function in WRONG[method]:
        for dtype in (torch.float32, torch.float64):
            objective = Objective(built(lambda function=function: Using(function)), X, Y, dtype=dtype)
            theta = objective.parameters()
            objective.gradient(theta)  # the first derivative is the user's
            with pytest.raises(ReplicationError, match="no second derivative"):
                getattr(objective, method)(theta, theta, **settings)


@pytest.mark.parametrize("backbone", [False, True])
def test_functions_that_are_right_twice_are_used(backbone: bool) -> None:
    class Plain(Using):
        def forward(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(not self.backbone):
                x = torch.relu(self.first(x))
            return self.last(self.middle(x).sin())

    first, second = (
        Objective(built(lambda kind=kind: kind(Sine, backbone=backbone)), X, Y, dtype=torch.float64) for kind in (Using, Plain)
    )
    theta = first.parameters()
    for method in PRODUCTS:
        torch.testing.assert_close(getattr(first, method)(theta, theta), getattr(second, method)(theta, theta))


class Hooked(Using):
    """A hook on a tensor of the forward pass changes slopes, out of autograd's sight."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.middle(torch.tanh(self.first(x)))
        if hidden.requires_grad:
            hidden.register_hook(lambda slope: slope.detach() * 2)
        return self.last(hidden.tanh())


def test_hooks_that_detach_slopes_are_refused() -> None:
    objective = Objective(built(lambda: Hooked(None)), X, Y, dtype=torch.float64)
    with pytest.raises(ReplicationError, match="no second derivative"):
        objective.hessian_vector_product(objective.parameters(), objective.parameters())


def differences(objective: Objective, theta: Tensor, vector: Tensor, step: float = 1e-6) -> Tensor:
    return (objective.gradient(theta + step * vector) - objective.gradient(theta - step * vector)) / (2 * step)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:.*weight_norm.*:UserWarning")
@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_is_right_twice(norm: Any) -> None:
    model = built(lambda: nn.Sequential(norm(nn.Linear(5, 8)), nn.Tanh(), norm(nn.Linear(8, 3))))
    objective = Objective(model, X, Y, dtype=torch.float64)
    theta = objective.parameters()
    vector = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(objective.hessian_vector_product(theta, vector), differences(objective, theta, vector), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_member_of_the_zoo_has_its_products(name: str, dtype: torch.dtype) -> None:
    member = zoo.build(name)
    objective = Objective(member.model, member.inputs, member.labels, dtype=dtype, **member.objective_arguments)
    theta = objective.parameters()
    product = objective.hessian_vector_product(theta, theta)
    objective.gauss_newton_vector_product(theta, theta)
    objective.fisher_vector_product(theta, theta, empirical=True)
    if dtype == torch.float64:
        torch.testing.assert_close(product, differences(objective, theta, theta, 1e-7), rtol=1e-4, atol=1e-4 * float(product.norm()))


ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.ELU, nn.GELU, nn.Softplus, nn.Softshrink, nn.Mish, nn.PReLU)


@pytest.mark.parametrize("seed", range(12))
def test_kinks_do_not_trip_the_check(seed: int) -> None:
    """Wide networks with kinks, dead inputs, pooling and maxima, at fresh and at large weights."""
    torch.manual_seed(seed)
    activations = [ACTIVATIONS[int(number)]() for number in torch.randint(len(ACTIVATIONS), (3,))]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), activations[0], nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), activations[1], nn.Flatten(),
        nn.Linear(256, 300), activations[2], nn.Linear(300, 3),
    )  # fmt: skip
    images = torch.randn(12, 1, 8, 8).clamp(min=0)
    images[:, :, :, 4:] = 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 4 * (seed % 2)
            if seed % 3 == 0 and parameter.dim() == 1:
                parameter.zero_()
    objective = Objective(model, images, torch.arange(12) % 3, dtype=torch.float64 if seed % 4 else torch.float32)
    for method in PRODUCTS:
        getattr(objective, method)(objective.parameters(), objective.parameters())


class SingleInside(nn.Module):
    """Normalises in float32 whatever its own type, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        single = hidden.float()
        return self.last((single * torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + 1e-6)).to(hidden.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_that_compute_in_float32_inside_have_curvature(dtype: torch.dtype) -> None:
    model = built(SingleInside)
    objective = Objective(model, X, Y, dtype=dtype)
    own = objective.parameters()
    vector = torch.randn(len(own), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(theta: Tensor) -> Tensor:
        shaped = unflatten(theta, parameter_shapes(model))
        hidden = X.double() @ shaped["first.weight"].T + shaped["first.bias"]
        hidden = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6)
        return nn.functional.cross_entropy(hidden @ shaped["last.weight"].T + shaped["last.bias"], Y)

    _, expected = torch.autograd.functional.hvp(loss, own, vector)
    torch.testing.assert_close(objective.hessian_vector_product(own, vector), expected, rtol=1e-4, atol=1e-5)
    objective.gauss_newton_vector_product(own, vector)
