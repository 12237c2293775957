"""Mean CCA, SVCCA and PWCCA of layers that share some directions and fill up with noise (PWCCA, figure 2 and A.4)."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.schema.svcca import NoiseConfig
from replication.svcca.canonical import cca
from replication.svcca.measures import pwcca, svcca
from replication.svcca.noise import noise_floor
from replication.training.trained_run import TrainedRun

# the paper's N(0, 0.1) may give the standard deviation or the variance; the last, as strong as the signal, breaks the mechanism
NOISES = {"standard deviation 0.1": 0.1, "variance 0.1": 0.1**0.5, "as strong as the signal": 1.0}


def measure(config: NoiseConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Similarities by number of shared directions and by noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, k in enumerate(config.shared):
        for noise, size in NOISES.items():
            x, y = noisy_layers(k, config.neurons, config.examples, size, generator)
            similarities = (cca(x, y).similarity, svcca(x, y).similarity, svcca(x, y, criterion="variance").similarity)
            floor = noise_floor(len(x), config.neurons, config.neurons)
            rows.append((k, noise, *similarities, pwcca(x, y).similarity, floor))
        progress(number + 1, len(config.shared))
    return pack({"similarity": pd.DataFrame(rows, columns=["shared", "noise", "mean", "svcca", "svcca_variance", "pwcca", "floor"])})


def tables(config: NoiseConfig, parts: Sequence[Arrays]) -> Tables:
    """``similarity``: a row per number of shared directions and noise."""
    return unpack(parts)


def noisy_layers(k: int, neurons: int, n: int, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two layers ``[n, neurons]``: k standard normal signals, in the second one rotated, and independent noise neurons."""

    def normal(columns: int) -> Tensor:
        return torch.randn(n, columns, generator=generator, dtype=torch.float64)

    signal = normal(k)
    rotation = torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))[0]
    return torch.cat([signal, noise * normal(neurons - k)], 1), torch.cat([signal @ rotation, noise * normal(neurons - k)], 1)
