"""Loss change allocation, SVCCA, stiffness and curvature of one training at the same steps, each with its control."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from replication.activations.outputs import layer_outputs
from replication.curvature.ends import extremes
from replication.data.examples import subset
from replication.landscape.directions import normalised
from replication.lca.trajectory import along
from replication.measurements import Arrays, Progress, Tables, stiffness_probe
from replication.measurements.columns import pack, unpack
from replication.measurements.svcca_rows import neurons
from replication.objective.objective import Objective
from replication.schema.four_views import FourViewsConfig
from replication.seeds import derived_seed
from replication.stiffness.gradient_gram import TOTAL, gram
from replication.svcca.measures import svcca
from replication.training.trained_run import TrainedRun


def measure(config: FourViewsConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """All views of one seed."""
    (run,) = runs
    views: dict[str, pd.DataFrame] = {}
    for name, view in VIEWS.items():
        views[name] = view(config, run)
        progress(len(views), len(VIEWS))
    return pack(views)


def tables(config: FourViewsConfig, parts: Sequence[Arrays]) -> Tables:
    """``losses``, ``allocation``, ``convergence``, ``stiffness`` and ``curvature``, each with the step in its first column."""
    return unpack(parts)


def losses(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Training loss and accuracy at the checkpoints and at the end, evaluated independently of the allocation."""
    objective = run.objective()
    steps = sorted({*config.steps, run.config.steps})
    return pd.DataFrame([{"step": step, **objective.evaluate(theta_at(run, step))._asdict()} for step in steps])


def allocation(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Loss change of every step and layer, ``shuffled`` with gradients permuted over all parameters, and the step's integration error."""
    books = along(run.objective(), run.trajectory).tables()
    layers = books["layers"].groupby(["step", "layer"], sort=False)[["lca", "lca_shuffled"]].sum().reset_index()
    return layers.merge(books["steps"][["step", "error"]], on="step")


def convergence(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """SVCCA similarity of each layer to its final state on test images; ``shuffled`` pairs it with the final state on other images."""
    images = run.experiment.test.images[: config.examples]
    final = layer_outputs(run.model(), images, config.layers, view=neurons)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(derived_seed(run.seed, "order of images")))
    rows = []
    for step in config.steps:
        outputs = layer_outputs(run.model(step), images, config.layers, view=neurons)
        for layer, output in outputs.items():
            similar, control = (svcca(output, last) for last in (final[layer], final[layer][order]))
            rows.append((step, layer, similar.similarity, control.similarity, similar.noise_floor))
    return pd.DataFrame(rows, columns=["step", "layer", "similarity", "similarity_shuffled", "noise_floor"])


def gradient_cosines(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Mean gradient cosines of training examples within and between classes; ``stiffness_probe.summary`` has the controls."""
    train = run.experiment.train
    index = subset(train.labels.cpu(), config.probe, seed=0).to(train.labels.device)
    probe = stiffness_probe.Probe(train.images[index], train.labels[index], len(index))
    rows = []
    for step in config.steps:
        generator = torch.Generator().manual_seed(derived_seed(run.seed, "probe", step))
        grams = gram(run.model(step), probe.images, probe.labels, per_layer=False)
        summary = stiffness_probe.summary({TOTAL: grams[TOTAL]}, probe, generator=generator)
        rows.append(summary[summary["kind"] == "cosine"].assign(step=step))
    columns = ["step", "within", "between", "within_permuted", "between_permuted", "pairs", "zero_gradients", "non_finite"]
    return pd.concat(rows, ignore_index=True)[columns]


def eigenvalues(config: FourViewsConfig, run: TrainedRun) -> pd.DataFrame:
    """Smallest and largest Hessian eigenvalue along the training, and equally far from the start in a random direction (``path``)."""
    objective = run.objective()
    rows = []
    for step in config.steps:
        for path, theta in (("training", theta_at(run, step)), ("random", random_move(objective, run, step))):
            ends = extremes(objective, theta, tolerance=config.tolerance, max_products=config.max_products)
            rows.append((step, path, ends.smallest, ends.largest, ends.smallest_error, ends.largest_error, ends.converged))
    return pd.DataFrame(rows, columns=["step", "path", "smallest", "largest", "smallest_error", "largest_error", "converged"])


def theta_at(run: TrainedRun, step: int) -> Tensor:
    """The weights after ``step`` steps ``[n_parameters]``."""
    return torch.from_numpy(run.trajectory[step].copy()).to(run.device)


def random_move(objective: Objective, run: TrainedRun, step: int) -> Tensor:
    """Weights as far from the initial ones, tensor by tensor, as those after ``step`` steps, in one random direction; biases as trained."""
    start = theta_at(run, 0).double()
    draws = torch.randn(len(start), generator=torch.Generator().manual_seed(derived_seed(run.seed, "direction"))).to(run.device)
    return start + normalised(draws, theta_at(run, step).double() - start, objective.layout, "layer", ignore=None)


VIEWS = {
    "losses": losses,
    "allocation": allocation,
    "convergence": convergence,
    "stiffness": gradient_cosines,
    "curvature": eigenvalues,
}
