"""Biases and normalisation are told by module and name, and a filter is the set of weights of one output."""

import pytest
import torch
from torch import Tensor, nn

from replication import landscape
from replication.errors import ReplicationError
from replication.landscape.directions import ignored_tensors
from replication.objective import layout_of


class ChannelNorm(nn.Module):
    """A norm with scales of four axes, as some libraries have it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 3, 1, 1))


class NormalisedLinear(nn.Linear):
    """A linear layer, whatever it is called."""


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.bias = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(1, 4, 1))


@pytest.mark.parametrize(
    ("module", "ignored"),
    [
        (nn.BatchNorm2d(3), {"weight", "bias"}),
        (nn.GroupNorm(1, 3), {"weight", "bias"}),
        (nn.RMSNorm(3), {"weight"}),
        (ChannelNorm(), {"scale"}),
        (NormalisedLinear(3, 2), {"bias"}),
        (nn.PReLU(3), set()),
        (LayerScale(), {"bias"}),
        (nn.Embedding(3, 2), set()),
        (nn.LSTM(2, 3), {"bias_ih_l0", "bias_hh_l0"}),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), {"in_proj_bias", "out_proj.bias", "bias_k", "bias_v"}),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), {"bias"}),
    ],
)
def test_which_tensors_are_biases_and_norms(module: nn.Module, ignored: set[str]) -> None:
    assert ignored_tensors(layout_of(module), "biasbn") == ignored
    direction = landscape.random_direction(module, torch.Generator().manual_seed(0))
    for slot in layout_of(module):
        assert bool(direction[slot.slice].any()) == (slot.name not in ignored)


def filters_of(module: nn.Module, weight: Tensor) -> list[Tensor]:
    """The weights of each output, by definition: those on which one output alone depends."""
    if isinstance(module, nn.ConvTranspose2d):
        per_group = module.out_channels // module.groups
        of_group = weight.view(module.groups, -1, *weight.shape[1:])
        return [of_group[output // per_group, :, output % per_group] for output in range(module.out_channels)]
    return list(weight) if weight.dim() > 1 else [weight]


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(3, 4),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, 2, groups=2),
        nn.Embedding(5, 3),
        nn.PReLU(4),
        nn.PReLU(),
    ],
)
def test_each_filter_of_a_direction_is_as_long_as_its_weights(module: nn.Module) -> None:
    direction = landscape.random_direction(module, torch.Generator().manual_seed(0))
    (slot, *_) = layout_of(module)
    pairs = zip(
        filters_of(module, direction[slot.slice].view(slot.shape)), filters_of(module, module.weight.detach().double()), strict=True
    )
    for moved, weights in pairs:
        assert moved.norm().item() == pytest.approx(weights.norm().item(), rel=1e-6)


def test_tensors_are_named_by_tensor_layer_or_function() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    layout = layout_of(model)
    assert ignored_tensors(layout, ["0"]) == {"0.weight", "0.bias"}
    assert ignored_tensors(layout, ["biasbn", "2.weight"]) == {"0.bias", "1.weight", "1.bias", "2.bias", "2.weight"}
    assert ignored_tensors(layout, lambda slot: slot.shape == (3,)) == {"0.bias", "1.weight", "1.bias"}
    with pytest.raises(ReplicationError, match=r"'0.wieght', which is no parameter or layer of the vector; did you mean '0.weight'"):
        ignored_tensors(layout, ["0.wieght"])


def test_complex_parameters_are_refused() -> None:
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(2, 2, dtype=torch.cfloat))
    with pytest.raises(ReplicationError, match="'weight' is complex"):
        landscape.random_direction(module, torch.Generator())
