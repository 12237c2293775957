"""Distances between networks that differ in their seed, for networks of several widths (PWCCA, figure 4 and A7)."""

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from replication.activations.outputs import layer_outputs
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.measurements.svcca_rows import LOGITS, neurons
from replication.schema.svcca import WidthConfig
from replication.svcca.measures import pwcca_distance
from replication.svcca.noise import noise_floor
from replication.training.trained_run import TrainedRun

SPLITS = ("train", "test")


def measure(config: WidthConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """PWCCA distances of the last convolution, before and after training, and how good the networks are."""
    distances: list[pd.DataFrame] = []
    networks: list[pd.DataFrame] = []
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    for number, pair in enumerate(pairs):
        for split in SPLITS:
            untrained, trained = ([outputs(run, step, split, config.examples)[0] for run in pair] for step in (0, None))
            layers = {"untrained": untrained, "trained": trained, "shuffled": [trained[0], shuffled(trained[1], seed)]}
            rows = [(state, *distance_of_filters(x, y, config, seed)) for state, (x, y) in layers.items()]
            table = pd.DataFrame(rows, columns=["state", "distance", "floor"])
            distances.append(table.assign(split=split, filters=trained[0].shape[1]))
        networks.append(quality(pair).assign(filters=trained[0].shape[1]))
        progress(number + 1, len(pairs))
    return pack({"distances": pd.concat(distances), "networks": pd.concat(networks)})


def tables(config: WidthConfig, parts: Sequence[Arrays]) -> Tables:
    """``distances`` by filters of the last convolution, state and split; ``networks``: loss and accuracy of every network."""
    return unpack(parts)


def outputs(run: TrainedRun, step: int | None, split: str, examples: int | None = None) -> tuple[Tensor, Tensor]:
    """Means over space after the last convolution, ``[n, filters]``, and logits ``[n, classes]``, at a kept step (None: the end)."""
    model = run.model(step)
    last = [name for name, _ in model.named_children() if name.startswith("relu")][-1]
    by_layer = layer_outputs(model, getattr(run.experiment, split).images[:examples], [last, LOGITS], view=neurons)
    return by_layer[last], by_layer[LOGITS]


def shuffled(layer: Tensor, seed: int) -> Tensor:
    """The control: the examples in another order."""
    return layer[torch.randperm(len(layer), generator=torch.Generator().manual_seed(seed))]


def distance_of_filters(x: Tensor, y: Tensor, config: WidthConfig, seed: int) -> tuple[float, float]:
    """Mean distance over draws of ``config.filters`` filters of both, whatever the width, and that of independent neurons."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(config.draws):
        chosen = [torch.randperm(layer.shape[1], generator=generator)[: config.filters] for layer in (x, y)]
        total += pwcca_distance(x[:, chosen[0]], y[:, chosen[1]])
    return total / config.draws, 1 - noise_floor(len(x), config.filters, config.filters)


def quality(pair: Sequence[TrainedRun]) -> pd.DataFrame:
    """Loss and accuracy on all training and test images."""
    rows = []
    for number, run in enumerate(pair):
        measured: dict[str, float] = {}
        for split in SPLITS:
            labels, (_, logits) = getattr(run.experiment, split).labels, outputs(run, None, split)
            measured[f"{split}_loss"] = F.cross_entropy(logits.double(), labels).item()
            measured[f"{split}_accuracy"] = (logits.argmax(1) == labels).double().mean().item()
        rows.append({"run": run.name, "network": number} | measured)
    return pd.DataFrame(rows)
