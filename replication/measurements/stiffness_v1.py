"""Stiffness of validation pairs as version 1 of the paper measures it, in float32 and in float64 (Fort et al. 2019, sections 2 and 3).

Version 1 takes signs of the products of single examples' gradients (equation 5) and their means by class (equation 6, in which the two
examples may be the same). Gradients come from one backward pass per example. In float32 the gradient of an example that is fitted
beyond the resolution of the softmax is exactly zero, and sign(0) = 0 draws the mean towards zero; float64 keeps the gradient. So both
are measured, with the share of zeros, and the cosine in float64 beside them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.activations import layer_outputs
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
    single = products_in_float32(model, probe)
    double = gram(model, probe.images, probe.labels, per_layer=False)[TOTAL]
    draws = generator(run.seed, "stiffness_v1", run.name, step)
    found = {
        "losses": losses(run, model, step),
        "summary": summary(single, double, probe.labels, draws),
        "agreement": agreement(single, double, probe.labels),
    }
    if step in config.matrices:
        found["classes"] = classes(single, double, probe.labels)
    if config.representations:
        found |= against_similarity(config, model, single, probe, draws)
    if config.super_classes and step == config.matrices[-1]:
        found |= against_super_classes(config, single, probe.labels, run.experiment.classes, draws)
    return found


def losses(run: TrainedRun, model: nn.Module, step: int) -> pd.DataFrame:
    """Epochs and images seen, and the losses of the whole training and validation sets."""
    train, validation = (evaluate(model, examples)[0] for examples in (run.experiment.train, run.experiment.validation))
    epoch = step / steps_per_epoch(run.config, len(run.experiment.train.labels))
    images = step * run.config.batch_size
    return pd.DataFrame([{"epoch": epoch, "images": images, "train_loss": train, "validation_loss": validation}])


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


def summary(single: Tensor, double: Tensor, labels: Tensor, draws: torch.Generator) -> pd.DataFrame:
    """Stiffness within and between classes by precision and kind.

    Args:
        single, double: products ``[n, n]`` in float32 and float64.
        draws: of the controls: labels given to other examples (``_permuted``), gradients turned up or down by chance (``_flipped``).

    Returns:
        columns ``precision``, ``kind``, ``within``, ``between``, ``between_sd``, the same with ``_permuted`` and ``_flipped``,
        ``zero_gradients`` (share of the examples), ``zero_within`` and ``zero_between`` (shares of the products).
    """
    n = len(labels)
    permuted = labels[torch.randperm(n, generator=draws).to(labels.device)]
    flips = (2.0 * torch.randint(2, (n,), generator=draws) - 1).to(double)
    rows = []
    for precision, products in (("float32", single), ("float64", double)):
        values = signs(products)
        row: dict[str, str | float] = {"precision": precision, "kind": "sign", **of_cells(class_means(values, labels))}
        for control, matrix in (
            ("permuted", class_means(values, permuted)),
            ("flipped", class_means(values * flips[:, None] * flips, labels)),
        ):
            row |= {f"{name}_{control}": value for name, value in of_cells(matrix).items()}
        zero = of_cells(class_means(products == 0, labels))
        row |= {"zero_gradients": (products.diag() == 0).double().mean().item()}
        rows.append(row | {"zero_within": zero["within"], "zero_between": zero["between"]})
    cosines = class_matrix(double, labels, "cosine").mean
    rows.append({"precision": "float64", "kind": "cosine", **of_cells(cosines)})
    return pd.DataFrame(rows)


def agreement(single: Tensor, double: Tensor, labels: Tensor) -> pd.DataFrame:
    """Signs in both precisions where the product in float32 is zero and where it is not, for pairs within and between classes.

    Returns:
        columns ``pairs`` (within or between), ``zero_share``, ``float32`` and ``float64`` (mean signs of the products that are not zero
        in float32), ``float64_of_zeros`` (mean sign in float64 of those that are).
    """
    same = labels[:, None] == labels[None, :]
    low, high = signs(single), signs(double)
    rows = []
    for name, pairs in (("within", same), ("between", ~same)):
        zero, other = pairs & (low == 0), pairs & (low != 0)
        means = {"float32": low[other].mean().item(), "float64": high[other].mean().item(), "float64_of_zeros": high[zero].mean().item()}
        rows.append({"pairs": name, "zero_share": zero.sum().item() / pairs.sum().item()} | means)
    return pd.DataFrame(rows)


def classes(single: Tensor, double: Tensor, labels: Tensor) -> pd.DataFrame:
    """The class matrices of signs: ``class_1``, ``class_2``, ``float32``, ``float64``."""
    n = int(labels.max()) + 1
    first, second = np.divmod(np.arange(n * n), n)
    by_precision = {"float32": class_means(signs(single), labels), "float64": class_means(signs(double), labels)}
    return pd.DataFrame({"class_1": first, "class_2": second} | {name: each.flatten().cpu().numpy() for name, each in by_precision.items()})


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
