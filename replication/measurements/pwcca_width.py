"""Distance between two networks by their width and test accuracy (PWCCA, figure 4 and A7)."""

from collections.abc import Sequence

import pandas as pd
import torch

from replication.activations import layer_outputs
from replication.layer_rows import neurons
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.measurements.pwcca_groups import accuracies, distance
from replication.schema.svcca import WidthConfig
from replication.trained_run import TrainedRun

_LAST = "relu11"


def measure(config: WidthConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Distances of the last convolution, trained and untrained, on test images."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for name, pair in zip(config.runs, (runs[i : i + 2] for i in range(0, len(runs), 2)), strict=True):
        images = pair[0].experiment.test.images[: config.examples]
        distances = []
        for step in (0, pair[0].config.steps):
            layers = [layer_outputs(run.model(step), images, [_LAST], view=neurons)[_LAST] for run in pair]
            chosen = [layer[:, torch.randperm(layer.shape[1], generator=generator)[: config.filters]] for layer in layers]
            distances.append(distance(*chosen))
        found = accuracies(pair)
        rows.append((name, layers[0].shape[1] // 8, *distances, found["train"].mean(), found["test"].mean()))
        progress(len(rows), len(config.runs))
    return pack({"widths": pd.DataFrame(rows, columns=["run", "width", "untrained", "trained", "train_accuracy", "test_accuracy"])})


def tables(config: WidthConfig, parts: Sequence[Arrays]) -> Tables:
    """``widths``: a row per width, narrow to wide."""
    return unpack(parts)
