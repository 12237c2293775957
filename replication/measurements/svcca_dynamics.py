"""How layers become what they are at the end: during training, in another architecture, for single classes (SVCCA, figures 4, 6, 7)."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import join_runs, pack, unpack
from replication.measurements.svcca_rows import LOGITS, MAPS, OUT, neurons, positions, row_outputs, rows_of
from replication.schema.svcca import DynamicsConfig
from replication.svcca.canonical import cca
from replication.svcca.fourier import fourier_cca
from replication.svcca.measures import svcca
from replication.svcca.table import similarity_matrix
from replication.training.trained_run import TrainedRun


def measure(config: DynamicsConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Matrices and curves of every run, its classes, and the two networks against each other."""
    by_run = []
    for number, run in enumerate(runs):
        by_run.append((run.name, tables_of_run(config, run)))
        progress(number + 1, len(runs) + 1)
    return pack(join_runs(by_run) | {"cross": across(config, runs)})


def tables(config: DynamicsConfig, parts: Sequence[Arrays]) -> Tables:
    """``matrices``, ``controls``, ``norms``, ``curves`` and ``classes`` by run, ``cross``."""
    return unpack(parts)


def tables_of_run(config: DynamicsConfig, run: TrainedRun) -> dict[str, pd.DataFrame]:
    """One network during training against itself at the end."""
    images = run.experiment.test.images[: config.examples]
    few = images[: config.folded_examples]
    final = row_outputs(run.model(), images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(run.seed))
    wanted = [round(share * run.config.steps / 100) for share in config.matrices]
    folded = row_outputs(run.model(), few, view=positions)
    matrices, controls, curves = [], [], []
    for step in run.steps:
        model = run.model(step)
        means, maps = row_outputs(model, images), row_outputs(model, few, view=positions)
        curves.append(diagonal(maps, folded, means, final).assign(step=step))
        if step in wanted:
            matrices.append(similarity_matrix(means, final).assign(step=step))
        if step in wanted and 0 < step < run.config.steps:
            shuffled = {row: svcca(means[row], final[row][order]).similarity for row in final}
            controls.append(pd.DataFrame({"row": shuffled.keys(), "similarity": shuffled.values(), "step": step}))
    classes, control = (class_sensitivity(final, logits) for logits in (final[LOGITS], final[LOGITS][order]))
    tables = {"matrices": pd.concat(matrices), "controls": pd.concat(controls), "curves": pd.concat(curves)}
    tables["classes"] = classes.assign(control=control["correlation"])
    # in float64: the float32 rounding of a nearly dead neuron in the network itself changed coefficients by 1e-6
    norms = batch_norm_pairs(run.model().double(), images.double())
    return tables | ({"norms": norms} if len(norms) else {})  # an empty table would turn the columns of the other network into text


def diagonal(
    maps: Mapping[str, Tensor], final_maps: Mapping[str, Tensor], means: Mapping[str, Tensor], final: Mapping[str, Tensor]
) -> pd.DataFrame:
    """SVCCA of every layer with itself at the end, positions of feature maps as examples."""
    folded = {row: row != OUT and len(maps[row]) > len(maps[OUT]) for row in final}
    sides = [{row: values for row, values in side.items() if not folded[row]} for side in (means, final)]
    pairs = similarity_matrix(*sides).query("layer_a == layer_b").set_index("layer_a")["similarity"]
    similarities = {row: svcca(maps[row], final_maps[row]).similarity if folded[row] else pairs[row] for row in final}
    return pd.DataFrame({"row": similarities.keys(), "similarity": similarities.values()})


def batch_norm_pairs(model: nn.Module, images: Tensor) -> pd.DataFrame:
    """A layer and the batch norm after it, which is affine in evaluation; the control has a convolution between."""
    pairs = {"c2-bn1": "norm", "c5-bn2": "norm", "fc1-bn3": "norm", "fc2-bn4": "norm", "c3-c4": "convolution"}
    rows = []
    if all(row in rows_of(model) for pair in pairs for row in pair.split("-")):
        final = row_outputs(model, images)
        for pair, between in pairs.items():
            x, y = (final[row] for row in pair.split("-"))
            rows.append((pair, between, cca(x, y).similarity, svcca(x, y).similarity))
    return pd.DataFrame(rows, columns=["pair", "between", "cca", "svcca"])


def class_sensitivity(final: Mapping[str, Tensor], logits: Tensor) -> pd.DataFrame:
    """Multiple correlation of every class's logit with every layer's neurons (of feature maps their means over space)."""
    rows = []
    for row, layer in final.items():
        for label in range(logits.shape[1]):
            coefficients = cca(layer, logits[:, label : label + 1]).coefficients
            rows.append((row, label, coefficients[0].item() if len(coefficients) else 0.0))
    return pd.DataFrame(rows, columns=["row", "class", "correlation"])


def across(config: DynamicsConfig, runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """Fourier CCA of the first network's feature maps with the second one's after each addition, at the end of training."""
    first, second = (run.model() for run in runs)
    images = [run.experiment.test.images[: config.folded_examples] for run in runs]
    residual = [row for row in rows_of(second) if row == "conv" or row.endswith("_res")]
    first_maps = row_outputs(first, images[0], rows=MAPS, view=None)
    second_maps = row_outputs(second, images[1], rows=residual, view=None)
    order = torch.randperm(len(images[0]), generator=torch.Generator().manual_seed(runs[0].seed))
    rows = []
    for row_a, x in first_maps.items():
        for row_b, y in second_maps.items():
            similarities = (fourier_cca(x, y).similarity, cca(neurons(x), neurons(y)).similarity)
            rows.append((row_a, row_b, *similarities, cca(neurons(x), neurons(y)[order]).similarity))
    return pd.DataFrame(rows, columns=["row_a", "row_b", "fourier", "means", "means_shuffled"])
