"""The evaluation form of a network equals the network."""

import copy
import math

import pytest
import torch
from tiny_landscape import tiny, tiny_examples
from torch import Tensor, nn

from replication import models
from replication.errors import ReplicationError
from replication.objective import Objective, flat_parameters

NETS = {
    "resnet20": ({"width": 4, "depth": 8}, 9),
    "resnet56_noshort": ({"width": 4, "depth": 14}, 13),
    "vgg9": ({"width": 4}, 8),
    "densenet121": ({"growth": 4, "blocks": (2, 2)}, 4),
    "lca_resnet20": ({"width": 4, "depth": 8}, 7),
    "stiffness_resnet20": ({"width": 4, "depth": 8}, 0),
}


def warmed(name: str, **settings: object) -> nn.Module:
    """With running statistics and batch norm parameters that are not the initial ones."""
    model = models.build(name, classes=10, channels=3, seed=0, image_size=16, **settings)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor, offset in ((module.weight, 1), (module.bias, 0), (module.running_mean, 0), (module.running_var, 1)):
                    tensor.copy_(offset + 0.2 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


@pytest.fixture
def images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(9, 3, 16, 16, generator=generator), torch.arange(9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", NETS)
def test_evaluate_equals_value_at_the_centre_and_away_from_it(
    name: str, dtype: torch.dtype, tolerance: float, images: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    settings, n_folded = NETS[name]
    objective = Objective(warmed(name, **settings), *images, dtype=dtype)
    theta = objective.parameters()
    for scale in (0, 0.03):
        point = theta + scale * torch.randn(len(theta), generator=generator)
        assert objective.evaluate(point).loss == pytest.approx(objective.value(point), rel=tolerance)
    assert objective.paths.n_folded == n_folded


@pytest.mark.parametrize("chunk", [None, 5, 32])
def test_loss_accuracy_and_standard_error_are_those_of_the_plain_model(chunk: int | None) -> None:
    model, (images, labels) = tiny(), tiny_examples()
    evaluation = Objective(model, images, labels, chunk=chunk, dtype=torch.float64).evaluate(flat_parameters(model))
    outputs = copy.deepcopy(model).double()(images.double())
    losses = nn.functional.cross_entropy(outputs, labels, reduction="none")
    assert evaluation.loss == pytest.approx(losses.mean().item(), rel=1e-12)
    assert evaluation.standard_error == pytest.approx(losses.std().item() / 32**0.5, rel=1e-12)
    assert evaluation.accuracy == (outputs.argmax(1) == labels).double().mean().item()


class Shared(nn.Module):
    """One convolution used twice with one batch norm, and a second whose output is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.bn2, self.fc = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(self.bn(self.conv(x))))
        maps = self.conv2(x)
        return self.fc((self.bn2(maps).relu() + maps.relu()).mean((2, 3)))


class Branching(nn.Sequential):
    """Cannot be traced: which way it goes depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 1e9 else x * 2)


class Hooked(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self[0].register_forward_hook(lambda _module, _inputs, output: output * 3)


def conv_bn() -> list[nn.Module]:
    norm = nn.BatchNorm2d(4)
    norm.running_mean.fill_(0.3)
    return [nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]


def tied() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(192, 5))
    model[2].weight = model[0].weight
    return model


def sequence() -> nn.Module:
    """A linear layer whose batch norm normalises the second axis, not the last."""
    return nn.Sequential(nn.Flatten(2), nn.Linear(64, 3), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 5))


@pytest.mark.parametrize(
    ("build", "n_folded"),
    [
        (Shared, 0),
        (lambda: Branching(*conv_bn()), 0),
        (lambda: Hooked(*conv_bn()), 0),
        (tied, 0),
        (sequence, 0),
        (lambda: nn.Sequential(*conv_bn()), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(256, 5)), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(256, 5)), 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 5)), 1),
    ],
    ids=["used twice", "branching", "hook", "tied", "sequence", "plain", "no affine", "no statistics", "grouped"],
)
def test_what_cannot_be_folded_is_left_and_gives_the_same(build, n_folded: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    objective = Objective(model, *tiny_examples(), dtype=torch.float64, chunk=32)
    point = objective.parameters() * 1.1
    assert objective.evaluate(point).loss == pytest.approx(objective.value(point), rel=1e-12)
    assert objective.paths.n_folded == n_folded


def test_batch_statistics_are_kept() -> None:
    objective = Objective(tiny(), *tiny_examples(), batch_norm="batch", chunk=8, dtype=torch.float64)
    assert len(objective.buffers()) == 0
    assert objective.evaluate(objective.parameters()).loss == pytest.approx(objective.value(objective.parameters()), rel=1e-12)


def test_bfloat16_is_within_its_rounding() -> None:
    values = [Objective(tiny(), *tiny_examples(), dtype=dtype) for dtype in (torch.bfloat16, torch.float64)]
    low, high = (objective.evaluate(values[1].parameters()).loss for objective in values)
    assert low == pytest.approx(high, rel=2e-2)
    assert low != high


def test_labels_that_are_no_classes_have_no_accuracy() -> None:
    objective = Objective(nn.Linear(2, 1), torch.ones(4, 2), torch.zeros(4), loss=lambda out, y: (out[:, 0] - y) ** 2)
    evaluation = objective.evaluate(objective.parameters())
    assert evaluation.loss == pytest.approx(objective.value(objective.parameters()))
    assert math.isnan(evaluation.accuracy)


def test_a_network_that_returns_nan_is_right_about_nothing() -> None:
    objective = Objective(tiny(), *tiny_examples())
    evaluation = objective.evaluate(objective.parameters() * float("nan"))
    assert math.isnan(evaluation.loss)
    assert evaluation.accuracy == 0


def test_the_model_is_given_back_unchanged_and_wrong_vectors_are_one_sentence() -> None:
    model = tiny().train()
    before = copy.deepcopy(model.state_dict())
    objective = Objective(model, *tiny_examples())
    objective.evaluate(objective.parameters() * 2)
    with pytest.raises(ReplicationError, match="shape"):
        objective.evaluate(torch.zeros(3))
    with pytest.raises(ReplicationError, match="buffers have shape"):
        objective.evaluate(objective.parameters(), buffers=torch.zeros(3))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks
    own = objective.value(objective.parameters())
    assert objective.evaluate(objective.parameters()).loss == pytest.approx(own, rel=1e-6)
