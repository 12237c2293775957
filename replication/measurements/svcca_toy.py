"""Two toy regression networks: aligned directions, and the output from few of them (SVCCA, figures 1 and 3).

Target functions, activation and optimiser are not published. These are a sine, a tent, a square wave and a parabola, ReLU and Adam.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from replication import models
from replication.activations.outputs import layer_outputs
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.schema.svcca import ToyConfig
from replication.seeds import derived_seed
from replication.svcca.canonical import Cca, Directions
from replication.svcca.measures import svcca
from replication.svcca.reductions import largest_neurons, on_directions, on_neurons, only_neurons
from replication.training.trained_run import TrainedRun

TARGETS = ("sin(2 pi x)", "2 |x| - 1", "square wave", "2 x^2 - 1")
_SHOWN = 400  # points that the figures show
_TOP = 4  # neurons and directions that figure 1 shows


def measure(config: ToyConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """A pair of networks trained and compared; a seed of the measurement is a pair that no other one shares."""
    x = torch.linspace(-1, 1, config.examples)[:, None]
    layer = f"relu{len(config.hidden)}"
    networks = [initial(config, 2 * seed + number) for number in range(2)]
    untrained = [hidden(network, x, layer) for network in networks]
    for number, network in enumerate(networks):
        train(network, config, 2 * seed + number)
        progress(number + 1, 2)
    layers = [hidden(network, x, layer) for network in networks]
    result = svcca(layers[0], layers[1])
    tops = [largest_neurons(z)[:_TOP] for z in layers]
    tables = {
        "coefficients": coefficients(result, svcca(untrained[0], untrained[1])),
        "pairs": pairs(result, layers, tops),
        "shown": shown(result, layers, tops, x),
        "network": pd.DataFrame([(mse(networks[0], x), *kept(*layers))], columns=["mse", "kept", "kept_variance", "dead"]),
    }
    tables |= projections(config, networks[0], layers[0], result.directions_x, x, seed)
    return pack(tables)


def tables(config: ToyConfig, parts: Sequence[Arrays]) -> Tables:
    """``coefficients``, ``pairs`` and ``shown`` (figure 1), ``errors`` and ``outputs`` (figure 3), ``network``."""
    return unpack(parts)


def targets(x: Tensor) -> Tensor:
    """The four functions of x ``[n, 1]``, ``[n, 4]``."""
    turn = (2 * torch.pi * x).sin()
    return torch.cat([turn, 2 * x.abs() - 1, turn.sign(), 2 * x.square() - 1], 1)


def initial(config: ToyConfig, seed: int) -> nn.Module:
    """The network before training."""
    return models.build("svcca_toy", classes=len(TARGETS), channels=1, seed=derived_seed(seed, "initialisation"), hidden=config.hidden)


def train(network: nn.Module, config: ToyConfig, seed: int) -> None:
    """Least squares on fresh uniform points in every step."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "points"))
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    for _ in range(config.steps):
        x = 2 * torch.rand(config.batch_size, 1, generator=generator) - 1
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(network(x), targets(x)).backward()
        optimizer.step()


def hidden(network: nn.Module, x: Tensor, layer: str) -> Tensor:
    """Outputs of the layer that is compared, float64."""
    return layer_outputs(network, x, [layer], chunk=4096)[layer].double()


@torch.no_grad()
def mse(network: nn.Module, x: Tensor) -> float:
    """Mean squared error over the points."""
    return nn.functional.mse_loss(network(x), targets(x)).item()


def kept(x: Tensor, y: Tensor) -> tuple[int, int, int]:
    """Directions that 99 % of singular values and of variance keep, and neurons of x that are always 0."""
    return svcca(x, y).rank_x, svcca(x, y, criterion="variance").rank_x, int((x == 0).all(0).sum())


def coefficients(result: Cca, untrained: Cca) -> pd.DataFrame:
    """Every coefficient, trained and untrained."""
    return pd.concat(
        pd.DataFrame({"networks": name, "index": np.arange(1, len(each.coefficients) + 1), "coefficient": each.coefficients.numpy()})
        for name, each in (("trained", result), ("untrained", untrained))
    )


def pairs(result: Cca, layers: Sequence[Tensor], tops: Sequence[Tensor]) -> pd.DataFrame:
    """Absolute correlation of the i-th SVCCA directions, of the i-th top neurons, and of a top neuron with its best match anywhere."""
    a, b = (torch.nan_to_num((z - z.mean(0)) / torch.linalg.vector_norm(z - z.mean(0), dim=0)) for z in layers)
    ranked = (a[:, tops[0]] * b[:, tops[1]]).sum(0).abs()
    best = (a[:, tops[0]].T @ b).abs().max(1).values
    columns = {"svcca": result.coefficients[:_TOP].numpy(), "ranked_neurons": ranked.numpy(), "best_neuron": best.numpy()}
    return pd.DataFrame({"index": np.arange(1, _TOP + 1), **columns})


def shown(result: Cca, layers: Sequence[Tensor], tops: Sequence[Tensor], x: Tensor) -> pd.DataFrame:
    """The top neurons and directions of both networks along x, directions with unit variance."""
    rows = torch.linspace(0, len(x) - 1, _SHOWN).long()
    parts = []
    for network, z, top, side in zip(("a", "b"), layers, tops, (result.directions_x, result.directions_y), strict=True):
        variates = side.variates(z) * len(z) ** 0.5
        for index in range(_TOP):
            columns = {"neuron": z[rows, top[index]].numpy(), "direction": variates[rows, index].numpy()}
            parts.append(pd.DataFrame({"network": network, "index": index + 1, "x": x[rows, 0].numpy(), **columns}))
    return pd.concat(parts)


@torch.no_grad()
def projections(config: ToyConfig, network: nn.Module, z: Tensor, directions: Directions, x: Tensor, seed: int) -> dict[str, pd.DataFrame]:
    """Relative error of the output after projecting the layer, and the outputs for the figure."""
    head = network[-1]  # type: ignore[index]
    full = head(z.float()).double()
    scale = (full - full.mean(0)).square().sum()
    rows = torch.linspace(0, len(x) - 1, _SHOWN).long()
    shuffled = torch.randperm(z.shape[1], generator=torch.Generator().manual_seed(derived_seed(seed, "neurons")))
    errors, outputs = [], []
    for k in config.directions:
        largest = largest_neurons(z)[:k]
        reductions = {
            "svcca": on_directions(directions, k),
            "largest neurons, others 0": only_neurons(largest),
            "largest neurons, least squares": on_neurons(z, largest),
            "random neurons, least squares": on_neurons(z, shuffled[:k]),
        }
        for name, reduction in reductions.items():
            output = head(reduction(z).float()).double()
            errors.append((name, k, ((output - full).square().sum() / scale).item()))
            if name == "svcca":
                outputs += [curve(k, target, x[rows, 0], full[rows, i], output[rows, i]) for i, target in enumerate(TARGETS)]
    return {"errors": pd.DataFrame(errors, columns=["projection", "k", "relative_error"]), "outputs": pd.concat(outputs)}


def curve(k: int, target: str, x: Tensor, full: Tensor, output: Tensor) -> pd.DataFrame:
    """One output along x, from the whole layer and from k directions."""
    return pd.DataFrame({"k": k, "target": target, "x": x.numpy(), "full": full.numpy(), "projected": output.numpy()})
