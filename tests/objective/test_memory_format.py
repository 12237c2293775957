import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from replication import models
from replication.data import Examples, Experiment
from replication.objective import Objective, memory_format
from replication.objective.vector import flatten
from replication.schema.runs import RunConfig
from replication.stiffness import gram
from replication.training import train


class Convolutions(TorchDispatchMode):
    """Records channels, kernel and stride of every convolution and of every derivative of one that oneDNN runs: not in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        if name in ("convolution", "convolution_backward"):
            weight, stride = (args[1], args[3]) if name == "convolution" else (args[2], args[4])
            if weight.dtype != torch.float64:
                self.seen.append((weight.shape[1], weight.shape[2], stride[0]))
        return func(*args, **(kwargs or {}))

    def overflows(self) -> bool:
        return any(channels < 16 and kernel == 1 and stride > 1 for channels, kernel, stride in self.seen)


def narrow_resnet() -> nn.Module:
    return models.build("resnet20", classes=4, channels=3, seed=0, depth=8, width=4, image_size=8).eval()


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, 8, 8, generator=generator), torch.randint(0, 4, (12,), generator=generator)


def test_the_recorder_sees_the_dangerous_convolution_of_a_narrow_shortcut() -> None:
    model, (images, _) = narrow_resnet(), examples()
    with Convolutions() as convolutions, torch.no_grad():
        model(images)
    assert convolutions.overflows()


def test_nothing_that_takes_derivatives_runs_it(tmp_path: Path) -> None:
    model, (images, labels) = narrow_resnet(), examples()
    objective = Objective(model, images, labels)
    theta = objective.parameters()
    all_of_them = Examples(images, labels)
    experiment = Experiment(all_of_them, all_of_them, all_of_them, 4, torch.zeros(3, 1, 1))
    settings = {"dataset": {"name": "digits"}, "model": "resnet20", "optimizer": {"name": "sgd", "lr": 0.1}}
    config = RunConfig.model_validate(settings | {"batch_size": 6, "steps": 2, "seeds": 1})
    with Convolutions() as convolutions:
        objective.gradient(theta)
        objective.gradient_by_class(theta)
        objective.hessian_vector_product(theta, torch.ones_like(theta))
        objective.evaluate(theta)
        gram(model, images, labels, dtype=torch.float32)
        train(copy.deepcopy(model), experiment, config, seed=0, folder=tmp_path)
    assert len(convolutions.seen) > 50
    assert not convolutions.overflows()


def test_gradients_of_a_narrow_network_are_those_of_contiguous_float64() -> None:
    """The heap was corrupted here on a processor with AVX2."""
    model, (images, labels) = narrow_resnet(), examples()
    plain = copy.deepcopy(model).double()
    functional.cross_entropy(plain(images.double()), labels).backward()
    expected = flatten(parameter.grad for parameter in plain.parameters())
    for _ in range(20):
        found = Objective(model, images, labels).gradient(Objective(model, images, labels).parameters())
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("settings", [{"stride": 2}, {"stride": (1, 3)}, {"stride": 2, "groups": 2}, {"stride": 2, "bias": False}])
def test_prepared_layers_compute_the_same_and_stay_what_they_are(settings: dict[str, object]) -> None:
    plain = nn.Conv2d(4, 6, 1, **settings).double()  # type: ignore[arg-type]
    prepared = copy.deepcopy(memory_format.prepare(copy.deepcopy(plain)))  # objectives copy what they are given
    assert type(prepared) is nn.Conv2d
    images = torch.randn(3, 4, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(prepared(images), plain(images), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        prepared.weight.zero_()  # a copy looks at its own weights
    assert prepared(images).unique().numel() <= 6


def test_wide_pointwise_and_padded_convolutions_are_left_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(16, 4, 1, stride=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 1, stride=2, padding=1)
    )
    assert not any("_conv_forward" in vars(module) for module in memory_format.prepare(model))


def test_vectors_and_matrices_stay_as_they_are() -> None:
    matrix = torch.randn(3, 4)
    assert memory_format.in_channels_last(matrix) is matrix
    assert memory_format.in_channels_last(torch.randn(2, 3, 4, 5)).stride() == (60, 1, 15, 3)
