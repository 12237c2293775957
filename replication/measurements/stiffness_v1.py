"""Stiffness of validation pairs as version 1 of the paper measures it, and in better arithmetic (Fort et al. 2019, sections 2 and 3).

Version 1 takes signs of the products of single examples' gradients (equation 5) and their means by class (equation 6, in which the two
examples may be the same). Gradients come from one backward pass per example. In float32 the gradient of an example that is fitted
beyond the resolution of the softmax is exactly zero, and sign(0) = 0 draws the mean towards zero; float64 keeps the gradient.

The derivative of the loss by the logit of the true class, p - 1, is rounded to 0 much earlier: where 1 - p is below 6e-8 in float32 and
below 1e-16 in float64, although the other logits still have derivatives. That removes negative terms from products of different classes.
So there are three precisions: ``float32`` as published, ``float64``, and ``exact``: float64 with p - 1 formed as minus the sum of the other
probabilities. Shares of zeros stand beside the signs, and the cosine of the exact gradients.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.activations.outputs import layer_outputs
from replication.data.examples import Examples
from replication.errors import ReplicationError
from replication.measurements import Arrays, Progress, Tables, columns, stiffness_probe
from replication.measurements.super_classes import groups_of
from replication.objective.vector import flatten
from replication.schema.stiffness import StiffnessV1Config
from replication.seeds import generator, numpy_stream
from replication.stiffness.distance import distances
from replication.stiffness.gradient_gram import TOTAL, gram
from replication.stiffness.groups import group_contrast, levels
from replication.stiffness.matrix import class_matrix
from replication.training.batches import steps_per_epoch
from replication.training.evaluation import evaluate
from replication.training.trained_run import TrainedRun

Products = Mapping[str, Tensor]  # by precision
Moment = tuple[int, float, nn.Module]  # step, the training loss that it stands for (nan: none), the network


def measure(config: StiffnessV1Config, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The tables of one run as arrays, each column under ``<table>/<column>``."""
    (run,) = runs
    probe = balanced_probe(run.experiment.validation, config.per_class, run.experiment.classes, seed=config.probe_seed)
    frames: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for number, (step, target, model) in enumerate(moments(config, run), start=1):
        about = {"run": run.name, "learning_rate": run.config.optimizer.lr, "step": step, "target": target}
        for name, table in tables_of_moment(config, run, model, probe, step).items():
            frames[name].append(table.assign(**about))  # type: ignore[arg-type]
        progress(number, len(config.steps) + len(config.losses))
    return columns.pack({name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()})


def tables(config: StiffnessV1Config, parts: Sequence[Arrays]) -> Tables:
    """Tables with a row for each ``run``, ``step`` and ``target``, the training loss that the step stands for (nan for a given step).

    ``losses``: ``epoch``, ``images`` seen, loss of the training and validation set. ``summary``: see ``summary``. ``agreement``: see
    ``agreement``. Where asked for, ``classes`` (class matrices), ``curves`` and ``domains`` (stiffness against similarity), ``levels``
    and ``contrasts`` (super-classes).
    """
    return columns.unpack(parts, first=("run", "learning_rate", "step", "target"))


def balanced_probe(examples: Examples, per_class: int, classes: int, *, seed: int) -> Examples:
    """``per_class`` examples of each class, drawn once and in their order.

    Raises:
        ReplicationError: a class has fewer examples.
    """
    labels, random = examples.labels.cpu().numpy(), numpy_stream(seed)
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise ReplicationError(f"Class {label} has {len(members)} validation images and per_class is {per_class}; make it smaller.")
        chosen.append(random.choice(members, per_class, replace=False))
    index = torch.from_numpy(np.sort(np.concatenate(chosen))).to(examples.labels.device)
    return Examples(examples.images[index], examples.labels[index])


def moments(config: StiffnessV1Config, run: TrainedRun) -> Iterator[Moment]:
    """The networks to measure: at the given steps, then at the training losses that the run reached."""
    for step in config.steps:
        yield step, float("nan"), run.model(step)
    for loss in config.losses:
        if loss in run.steps_at_losses:
            yield run.steps_at_losses[loss], loss, run.model_at_loss(loss)


def tables_of_moment(config: StiffnessV1Config, run: TrainedRun, model: nn.Module, probe: Examples, step: int) -> dict[str, pd.DataFrame]:
    """Every table of one network."""
    products = products_of(model, probe)
    draws = generator(run.seed, "stiffness_v1", run.name, step)
    frames = {
        "losses": losses(run, model, step, training_set=config.training_loss),
        "summary": summary(products, probe.labels, draws),
        "agreement": agreement(products, probe.labels),
    }
    if step in config.matrices:
        frames["classes"] = classes(products, probe.labels)
    if config.representations:
        frames |= against_similarity(config, model, products["float32"], probe, draws)
    if config.super_classes and step == config.matrices[-1]:
        frames |= against_super_classes(config, products["float32"], probe.labels, run.experiment.classes, draws)
    return frames


def losses(run: TrainedRun, model: nn.Module, step: int, *, training_set: bool) -> pd.DataFrame:
    """Epochs and images seen, and the losses of the whole training set (nan unless asked for) and validation set."""
    train = evaluate(model, run.experiment.train)[0] if training_set else float("nan")
    validation = evaluate(model, run.experiment.validation)[0]
    epoch = step / steps_per_epoch(run.config, len(run.experiment.train.labels))
    images = step * run.config.batch_size
    return pd.DataFrame([{"epoch": epoch, "images": images, "train_loss": train, "validation_loss": validation}])


def products_of(model: nn.Module, examples: Examples) -> Products:
    """Products ``[n, n]`` of the gradients of single examples by precision: ``float32``, ``float64``, ``exact``."""
    images, labels = examples.images, examples.labels
    return {
        "float32": products_in_float32(model, examples),
        "float64": gram(model, images, labels, per_layer=False)[TOTAL],
        "exact": gram(model, images, labels, per_layer=False, loss=cross_entropy_without_cancellation)[TOTAL],
    }


def cross_entropy_without_cancellation(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy ``[n]`` as log(1 + sum over the other classes of exp(z_k - z_y)).

    Its derivative by the logit of the true class is minus the sum of the others', which keeps all digits of a fitted example; p - 1 loses
    them.

    >>> outputs = torch.tensor([[50.0, 0.0]], dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.grad(F.cross_entropy(outputs, torch.tensor([0])), outputs)[0][0, 0].item()
    0.0
    >>> torch.autograd.grad(cross_entropy_without_cancellation(outputs, torch.tensor([0])).sum(), outputs)[0][0, 0].item() < 0
    True
    """
    true = labels[:, None]
    differences = (outputs - outputs.gather(1, true)).masked_fill(F.one_hot(labels, outputs.shape[1]).bool(), -torch.inf)
    return F.softplus(differences.logsumexp(1))


def products_in_float32(model: nn.Module, examples: Examples) -> Tensor:
    """Products ``[n, n]`` of the gradients of single examples, everything in float32: one backward pass for each example."""
    parameters = list(model.parameters())
    rows = torch.empty(len(examples.labels), sum(parameter.numel() for parameter in parameters), device=examples.images.device)
    for row, image, label in zip(rows, examples.images, examples.labels, strict=True):
        loss = F.cross_entropy(model(image[None]), label[None])
        row.copy_(flatten(torch.autograd.grad(loss, parameters)))
    return rows @ rows.T


def signs(products: Tensor) -> Tensor:
    """Signs of products, float64 ``[n, n]``: 0 for a product of zero, nan for one that is not finite (whose ``torch.sign`` may be 0)."""
    return torch.where(products.isfinite(), products.sign(), torch.nan).double()


def class_means(values: Tensor, labels: Tensor) -> Tensor:
    """Means of ``values`` ``[n, n]`` by the classes of rows and columns (equation 6, pairs of an example with itself included).

    >>> class_means(torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor([[ 0.5000, -1.0000],
            [-1.0000,  1.0000]], dtype=torch.float64)
    """
    members = F.one_hot(labels).double()
    counts = members.sum(0)
    return members.T @ values.double() @ members / (counts[:, None] * counts[None, :])


def of_cells(matrix: Tensor) -> dict[str, float]:
    """Mean of the diagonal of a class matrix, and mean and standard deviation of the cells off it (equation 7)."""
    off = matrix[~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)]
    return {"within": matrix.diag().mean().item(), "between": off.mean().item(), "between_sd": off.std(correction=0).item()}


def summary(products: Products, labels: Tensor, draws: torch.Generator) -> pd.DataFrame:
    """Stiffness within and between classes by precision and kind.

    Args:
        products: ``[n, n]`` by precision.
        draws: of the controls: labels given to other examples (``_permuted``), gradients turned up or down by chance (``_flipped``).

    Returns:
        columns ``precision``, ``kind``, ``within``, ``between``, ``between_sd``, the same with ``_permuted`` and ``_flipped``,
        ``zero_gradients`` (share of the examples), ``zero_within`` and ``zero_between`` (shares of the products).
    """
    n = len(labels)
    permuted = labels[torch.randperm(n, generator=draws).to(labels.device)]
    flips = (2.0 * torch.randint(2, (n,), generator=draws, dtype=torch.float64) - 1).to(labels.device)
    rows = []
    for precision, matrix in products.items():
        values = signs(matrix)
        row: dict[str, str | float] = {"precision": precision, "kind": "sign", **of_cells(class_means(values, labels))}
        broken = {"permuted": class_means(values, permuted), "flipped": class_means(values * flips[:, None] * flips, labels)}
        for control, means in broken.items():
            row |= {f"{name}_{control}": value for name, value in of_cells(means).items()}
        zero = of_cells(class_means(matrix == 0, labels))
        row |= {"zero_gradients": (matrix.diag() == 0).double().mean().item()}
        rows.append(row | {"zero_within": zero["within"], "zero_between": zero["between"]})
    cosines = class_matrix(products["exact"], labels, "cosine").mean
    rows.append({"precision": "exact", "kind": "cosine", **of_cells(cosines)})
    return pd.DataFrame(rows)


def agreement(products: Products, labels: Tensor) -> pd.DataFrame:
    """Signs in every precision where the product in float32 is zero and where it is not, for pairs within and between classes.

    Returns:
        columns ``pairs`` (within or between), ``zero_share``, a column for each precision (mean sign of the products that are not zero in
        float32), and the same with ``_of_zeros`` for those that are.
    """
    same = labels[:, None] == labels[None, :]
    of = {precision: signs(matrix) for precision, matrix in products.items()}
    rows = []
    for name, pairs in (("within", same), ("between", ~same)):
        zero, nonzero = pairs & (of["float32"] == 0), pairs & (of["float32"] != 0)
        row: dict[str, str | float] = {"pairs": name, "zero_share": zero.sum().item() / pairs.sum().item()}
        row |= {precision: values[nonzero].mean().item() for precision, values in of.items()}
        rows.append(row | {f"{precision}_of_zeros": values[zero].mean().item() for precision, values in of.items()})
    return pd.DataFrame(rows)


def classes(products: Products, labels: Tensor) -> pd.DataFrame:
    """The class matrices of signs: ``class_1``, ``class_2``, and a column for each precision."""
    n = int(labels.max()) + 1
    first, second = np.divmod(np.arange(n * n), n)
    means = {precision: class_means(signs(matrix), labels).flatten().cpu().numpy() for precision, matrix in products.items()}
    return pd.DataFrame({"class_1": first, "class_2": second} | means)


def against_similarity(
    config: StiffnessV1Config, model: nn.Module, products: Tensor, examples: Examples, draws: torch.Generator
) -> dict[str, pd.DataFrame]:
    """Stiffness of all pairs against the cosine of inputs and of representations (figures 9 and 10)."""
    probe = stiffness_probe.Probe(examples.images, examples.labels, len(examples.labels))
    views = {"input": examples.images} | layer_outputs(model, examples.images, config.representations)
    curves = {name: stiffness_probe.curve(products.double(), probe, 1 - distances(view), generator=draws) for name, view in views.items()}
    domains = [{"representation": name, **stiffness_probe.domain(table)} for name, table in curves.items()]
    return {
        "curves": pd.concat([table.assign(representation=name) for name, table in curves.items()], ignore_index=True),
        "domains": pd.DataFrame(domains),
    }


def against_super_classes(
    config: StiffnessV1Config, products: Tensor, labels: Tensor, n_classes: int, draws: torch.Generator
) -> dict[str, pd.DataFrame]:
    """Stiffness by how closely two classes are related, and the contrast with groupings drawn by chance beside it (figure 7)."""
    assert config.super_classes
    groups, kingdoms = groups_of(config.super_classes, n_classes)
    matrix = class_means(signs(products), labels)
    groupings = {"true": groups, "random": groups[torch.randperm(len(groups), generator=draws)]}
    contrasts = [
        {"grouping": name, **asdict(group_contrast(matrix, members, generator=draws, permutations=config.permutations))}
        for name, members in groupings.items()
    ]
    return {"levels": levels(matrix, groups, kingdoms), "contrasts": pd.DataFrame(contrasts)}
