"""How the states of LSTM layers become what they are at the end (SVCCA, appendix 6; PWCCA, figure 6)."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from replication.activations.outputs import layer_outputs
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.schema.svcca import LstmConfig
from replication.svcca.canonical import cca
from replication.svcca.measures import pwcca_distance, svcca
from replication.training.trained_run import TrainedRun


def measure(config: LstmConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """SVCCA, PWCCA and mean CCA of every layer with itself at the end, at every kept step."""
    (run,) = runs
    windows = run.experiment.test.images[: config.examples]
    final = states(run.model(), windows)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
    rows = []
    for number, step in enumerate(run.steps):
        for layer, x in states(run.model(step), windows).items():
            y = final[layer]
            result, shuffled = svcca(x, y), svcca(x, y[order]).similarity
            weighted = [1 - pwcca_distance(x, z) for z in (y, y[order])]
            rows.append((step, layer, result.similarity, shuffled, result.noise_floor, *weighted, cca(x, y).similarity))
        progress(number + 1, len(run.steps))
    columns = ["step", "layer", "svcca", "svcca_shuffled", "floor", "pwcca", "pwcca_shuffled", "cca"]
    evaluation = run.log()["evaluation"].query("split == 'test'")[["step", "loss", "accuracy"]]
    return pack({"curves": pd.DataFrame(rows, columns=columns), "evaluation": evaluation})


def tables(config: LstmConfig, parts: Sequence[Arrays]) -> Tables:
    """``curves`` by step and layer, bottom first; ``evaluation`` on the test windows."""
    return unpack(parts)


def states(model: nn.Module, windows: Tensor) -> dict[str, Tensor]:
    """Every layer's hidden state after the last character, ``[n, units]``."""
    layers = [name for name, _ in model.named_children() if name.startswith("lstm")]
    return layer_outputs(model, windows, layers, view=lambda output: output[:, -1])
