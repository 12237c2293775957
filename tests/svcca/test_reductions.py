"""Reductions to directions and to neurons."""

import torch
from torch import Tensor

from replication import svcca


def layer(generator: torch.Generator, n: int = 300) -> tuple[Tensor, Tensor]:
    signal = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    mixed = [signal @ torch.randn(6, p, generator=generator, dtype=torch.float64) for p in (12, 10)]
    x, y = (z + 0.1 * torch.randn(z.shape, generator=generator, dtype=torch.float64) for z in mixed)
    return x, y


def test_reductions(generator: torch.Generator) -> None:
    x, y = layer(generator)
    everything = torch.arange(12)
    torch.testing.assert_close(svcca.on_neurons(x, everything)(x), x)
    torch.testing.assert_close(svcca.only_neurons(everything)(x), x)
    directions = svcca.cca(x, y).directions_x
    for m in (12, 20):
        torch.testing.assert_close(svcca.double_projection(x, directions, 3, m)(x), svcca.on_directions(directions, 3)(x))
    reduced = svcca.on_neurons(x, torch.tensor([0, 3]))(x)
    torch.testing.assert_close(reduced[:, [0, 3]], x[:, [0, 3]])
    assert int(svcca.largest_neurons(x * torch.linspace(1, 9, 12))[0]) >= 6
    torch.testing.assert_close(svcca.on_directions(directions, 99)(x), svcca.on_directions(directions, 10)(x))


def test_completed_directions_span_the_layer(generator: torch.Generator) -> None:
    x, _ = layer(generator)
    logits = x[:, :2]
    directions = svcca.completed(svcca.cca(x, logits))
    assert directions.weights.shape == (12, 12)
    torch.testing.assert_close(svcca.project(x, directions, 12), x)
    torch.testing.assert_close(svcca.project(x, directions, 2)[:, :2], logits)
    variates = directions.variates(x)
    torch.testing.assert_close(variates.mH @ variates, torch.eye(12, dtype=torch.float64))
