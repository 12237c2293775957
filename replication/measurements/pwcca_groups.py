"""Distances within and between networks that generalise and networks that memorise (PWCCA, figure 3 and A10)."""

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from replication.activations.outputs import layer_outputs
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.measurements.svcca_rows import neurons
from replication.schema.svcca import GroupsConfig
from replication.svcca.measures import pwcca_distance
from replication.training.trained_run import TrainedRun

SOFTMAX = "softmax"


def measure(config: GroupsConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """PWCCA distances of every layer, on training and on test images."""
    rows: list[tuple[str, str, str, float]] = []
    for split in ("train", "test"):
        images = getattr(runs[0].experiment, split).images[: config.examples]
        g1, g2, m1, m2 = (layers_of(run.model(), images) for run in runs)
        groups = {"generalising": [(g1, g2)], "memorising": [(m1, m2)], "between": list(itertools.product((g1, g2), (m1, m2)))}
        # the control: two groups of one network of each kind, for which the claim on labels must not hold
        groups |= {"mixed group 1": [(g1, m1)], "mixed group 2": [(g2, m2)]}
        for group, pairs in groups.items():
            for layer in g1:
                distances = [pwcca_distance(a[layer], b[layer]) for a, b in pairs]
                rows.append((split, group, layer, sum(distances) / len(distances)))
    return pack({"distances": pd.DataFrame(rows, columns=["split", "group", "layer", "distance"]), "accuracy": accuracies(runs)})


def tables(config: GroupsConfig, parts: Sequence[Arrays]) -> Tables:
    """``distances`` by group, layer and split; ``accuracy`` of every network."""
    return unpack(parts)


def layers_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Outputs of every convolution after batch norm and ReLU, averaged over space, and of the softmax."""
    names = [name for name, _ in model.named_children() if name.startswith("relu")]
    outputs = layer_outputs(model, images, [*names, "logits"], view=neurons)
    return {name.removeprefix("relu"): outputs[name] for name in names} | {SOFTMAX: outputs["logits"].double().softmax(1)}


@torch.no_grad()
def accuracies(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """Accuracy on all training images (with the labels of the training) and on all test images."""
    rows = []
    for run in runs:
        model = run.model()
        shares: Mapping[str, float] = {
            split: (torch.cat([model(part) for part in examples.images.split(1000)]).argmax(1) == examples.labels).double().mean().item()
            for split, examples in (("train", run.experiment.train), ("test", run.experiment.test))
        }
        rows.append((run.name, run.seed, shares["train"], shares["test"]))
    return pd.DataFrame(rows, columns=["run", "network", "train", "test"])
