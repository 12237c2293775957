"""What CCA does not see (linear maps, the size of a direction) and what it sees in noise (SVCCA, appendices 1 and B; tutorial 001)."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.schema.svcca import InvarianceConfig
from replication.svcca.canonical import cca
from replication.svcca.measures import pwcca, svcca
from replication.training.trained_run import TrainedRun

_SHOWN = 300  # examples that the figure shows


def measure(config: InvarianceConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Transformed neurons, invariance of coefficients, aligned directions of any size, and noise against the number of examples."""
    generator = torch.Generator().manual_seed(seed)
    neurons = random_network(3, config.examples, generator)
    transformed = transformations(neurons, generator)
    recovered = [(name, 1 - cca(neurons, image).coefficients.min().item()) for name, image in transformed.items()]
    shown = [shown_neurons(neurons, transformed[name], name) for name in ("permuted", "rotated", "scaled", "all three")]
    aligned, mixed = aligned_directions(generator)
    return pack(
        {
            "recovered": pd.DataFrame(recovered, columns=["transformation", "largest_deviation"]),
            "shown": pd.concat(shown),
            "invariance": pd.DataFrame(invariance(config.examples, generator), columns=["map", "largest_difference"]),
            "aligned": aligned,
            "aligned_means": mixed,
            "noise": pd.DataFrame(noise(config, generator), columns=["neurons_x", "neurons_y", "examples", "mean", "floor"]),
        }
    )


def tables(config: InvarianceConfig, parts: Sequence[Arrays]) -> Tables:
    """``recovered``, ``shown``, ``invariance``, ``aligned``, ``aligned_means`` and ``noise``."""
    return unpack(parts)


def random_network(neurons: int, n: int, generator: torch.Generator) -> Tensor:
    """Outputs of random ReLU neurons on a curve through 20 dimensions, ``[n, neurons]`` float64."""
    time = torch.linspace(0, 6.3, n, dtype=torch.float64)[:, None]
    phases = 6.3 * torch.rand(20, generator=generator, dtype=torch.float64)
    curve = torch.sin(time * torch.arange(1, 21) / 3 + phases)
    return (curve @ torch.randn(20, neurons, generator=generator, dtype=torch.float64) + 1).relu()


def random_rotation(p: int, generator: torch.Generator) -> Tensor:
    """An orthogonal matrix, uniform up to signs."""
    return torch.linalg.qr(torch.randn(p, p, generator=generator, dtype=torch.float64))[0]


def transformations(neurons: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The neurons permuted, rotated, scaled, all three, and squared: the last is not linear, and CCA must see it."""
    rotation = random_rotation(neurons.shape[1], generator)
    scale = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    return {
        "permuted": neurons.roll(1, 1),
        "rotated": neurons @ rotation,
        "scaled": neurons * scale,
        "all three": (neurons.roll(1, 1) @ rotation) * scale,
        "squared": neurons.square(),
    }


def shown_neurons(neurons: Tensor, image: Tensor, name: str) -> pd.DataFrame:
    """A few examples of two neurons before and after, and of the first two canonical variates of both."""
    result = cca(neurons, image)
    variates = [side.variates(z) for side, z in ((result.directions_x, neurons), (result.directions_y, image))]
    rows = torch.linspace(0, len(neurons) - 1, _SHOWN).long()
    columns = {
        f"{what}_{number + 1}": z[rows, number].numpy()
        for what, z in (("before", neurons), ("after", image), ("variate_before", variates[0]), ("variate_after", variates[1]))
        for number in range(2)
    }
    return pd.DataFrame({"transformation": name, "example": rows.numpy(), **columns})


def invariance(n: int, generator: torch.Generator) -> list[tuple[str, float]]:
    """Largest change of any coefficient of two layers of 30 and 20 neurons when both are mapped (SVCCA, appendix B)."""
    x = random_network(30, n, generator)
    y = x[:, :20] + 3 * torch.randn(n, 20, generator=generator, dtype=torch.float64)
    before = cca(x, y).coefficients
    maps = {
        "orthogonal and scaled": (0.1 * x @ random_rotation(30, generator), 7 * y @ random_rotation(20, generator)),
        "squared": (x.square(), y.square()),
    }
    return [(name, (cca(*pair).coefficients - before).abs().max().item()) for name, pair in maps.items()]


def aligned_directions(generator: torch.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Layers of 200 neurons that share 50 directions; the other 150 are small ("noise") or as large ("useful") (SVCCA, B.0.1)."""
    basis = torch.linalg.qr(centred(torch.randn(2000, 350, generator=generator, dtype=torch.float64)))[0]
    shared, own_x, own_y = basis.split([50, 150, 150], 1)
    rows, means = [], []
    for kind, size in (("noise", 0.01), ("useful", 1.0)):
        x, y = (torch.cat([shared, size * own], 1) for own in (own_x, own_y))
        coefficients = cca(x, y).coefficients
        rows.append(pd.DataFrame({"kind": kind, "index": range(1, 201), "coefficient": coefficients.numpy()}))
        means.append((kind, coefficients.mean().item(), svcca(x, y).similarity, pwcca(x, y).similarity))
    return pd.concat(rows), pd.DataFrame(means, columns=["kind", "cca", "svcca", "pwcca"])


def centred(x: Tensor) -> Tensor:
    """Columns of mean zero."""
    return x - x.mean(0)


def noise(config: InvarianceConfig, generator: torch.Generator) -> list[tuple[int, int, int, float, float]]:
    """Mean coefficient of independent layers: of the same size at every number of examples, and tutorial 001's case."""
    p = config.noise_neurons
    rows = []
    for p_y, n in (*((p, n) for n in config.noise_examples), (p // 2, 20 * p)):
        x, y = (torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (p, p_y))
        result = cca(x, y)
        rows.append((p, p_y, n, result.similarity, result.noise_floor))
    return rows
