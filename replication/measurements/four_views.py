"""Loss change allocation, SVCCA, stiffness and curvature on one training, aligned in time; each with its control beside it."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from replication import curvature, data, lca, svcca
from replication.activations import layer_outputs
from replication.landscape.directions import normalised
from replication.measurements import Arrays, Progress, Tables, stiffness_probe
from replication.measurements.columns import pack, unpack
from replication.measurements.svcca_rows import neurons
from replication.objective.objective import Objective
from replication.schema.four_views import FourViewsConfig
from replication.stiffness.gradient_gram import TOTAL, gram
from replication.training.loop import derived_seed
from replication.training.trained_run import TrainedRun


def measure(config: FourViewsConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """All views of one seed."""
    (run,) = runs
    views = (losses, allocation, convergence, stiffness_of, curvature_of)
    found: dict[str, pd.DataFrame] = {}
    for number, view in enumerate(views, start=1):
        found[view.__name__.removesuffix("_of")] = view(config, run)
        progress(number, len(views))
    return pack(found)


def tables(config: FourViewsConfig, parts: Sequence[Arrays]) -> Tables:
    """``losses``, ``allocation``, ``convergence``, ``stiffness`` and ``curvature``, each with the step in its first column."""
    return unpack(parts)


def losses(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Training loss and accuracy at the checkpoints and at the end, evaluated apart from the allocation."""
    objective = run.objective()
    steps = sorted({*config.steps, run.config.steps})
    return pd.DataFrame([{"step": step, **objective.evaluate(theta_at(run, step))._asdict()} for step in steps])


def allocation(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Loss change of every step and layer, ``shuffled`` with gradients permuted over all parameters, and the step's integration error."""
    books = lca.along(run.objective(), run.trajectory).tables()
    layers = books["layers"].groupby(["step", "layer"], sort=False)[["lca", "lca_shuffled"]].sum().reset_index()
    return layers.merge(books["steps"][["step", "error"]], on="step")


def convergence(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """SVCCA similarity of each layer to its final form on test images, ``shuffled`` with the final form of other images."""
    images = run.experiment.test.images[: config.examples]
    final = layer_outputs(run.model(), images, config.layers, view=neurons)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(derived_seed(run.seed, "order of images")))
    rows = []
    for step in config.steps:
        outputs = layer_outputs(run.model(step), images, config.layers, view=neurons)
        for layer, output in outputs.items():
            true, broken = (svcca.svcca(output, other) for other in (final[layer], final[layer][order]))
            rows.append((step, layer, true.similarity, broken.similarity, true.noise_floor))
    return pd.DataFrame(rows, columns=["step", "layer", "similarity", "similarity_shuffled", "noise_floor"])


def stiffness_of(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Mean gradient cosines of training examples within and between classes; ``stiffness_probe.summary`` has the controls."""
    train = run.experiment.train
    index = data.subset(train.labels.cpu(), config.probe, seed=0).to(train.labels.device)
    probe = stiffness_probe.Probe(train.images[index], train.labels[index], len(index))
    rows = []
    for step in config.steps:
        generator = torch.Generator().manual_seed(derived_seed(run.seed, "probe", step))
        grams = gram(run.model(step), probe.images, probe.labels, per_layer=False)
        summary = stiffness_probe.summary({TOTAL: grams[TOTAL]}, probe, generator=generator)
        rows.append(summary[summary["kind"] == "cosine"].assign(step=step))
    columns = ["step", "within", "between", "within_permuted", "between_permuted", "pairs", "zero_gradients", "non_finite"]
    return pd.concat(rows, ignore_index=True)[columns]


def curvature_of(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Both ends of the Hessian's spectrum along the training, and as far from the start along random directions (``path``)."""
    objective = run.objective()
    rows = []
    for step in config.steps:
        for path, theta in (("training", theta_at(run, step)), ("random", random_move(objective, run, step))):
            ends = curvature.extremes(objective, theta, tolerance=config.tolerance, max_products=config.max_products)
            rows.append((step, path, ends.smallest, ends.largest, ends.smallest_error, ends.largest_error, ends.converged))
    return pd.DataFrame(rows, columns=["step", "path", "smallest", "largest", "smallest_error", "largest_error", "converged"])


def theta_at(run: TrainedRun, step: int) -> Tensor:
    """The weights after ``step`` steps ``[n_parameters]``."""
    return torch.from_numpy(run.trajectory[step].copy()).to(run.device)


def random_move(objective: Objective, run: TrainedRun, step: int) -> Tensor:
    """Weights as far from the initial ones as those after ``step`` steps, tensor by tensor, in one random direction; biases as trained."""
    start = theta_at(run, 0).double()
    draws = torch.randn(len(start), generator=torch.Generator().manual_seed(derived_seed(run.seed, "direction"))).to(run.device)
    return start + normalised(draws, theta_at(run, step).double() - start, objective.layout, "layer", ignore=None)
