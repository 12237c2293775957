"""Stiffness of a fixed probe at chosen checkpoints of several runs (Fort et al. 2019)."""

import copy
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from replication.activations.outputs import layer_outputs
from replication.data.examples import Examples, subset
from replication.errors import ReplicationError
from replication.measurements import Arrays, Progress, Tables, columns, stiffness_probe
from replication.measurements.stiffness_probe import Probe
from replication.measurements.super_classes import groups_of
from replication.models.parts import UnitSphere
from replication.schema.stiffness import StiffnessConfig
from replication.seeds import derived_seed
from replication.stiffness.distance import distances
from replication.stiffness.gradient_gram import TOTAL, gram
from replication.training.batches import steps_per_epoch
from replication.training.evaluation import evaluate
from replication.training.trained_run import TrainedRun

Frames = dict[str, list[pd.DataFrame]]


def measure(config: StiffnessConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The columns of every table as arrays, each under ``<table>/<column>``."""
    frames: Frames = defaultdict(list)
    for number, run in enumerate(runs):
        probe = probe_of(config, run)
        losses = losses_of(run)
        chosen = checkpoints(config, run, losses)
        about = {"run": run.name, "learning_rate": run.config.optimizer.lr}
        frames["losses"].append(losses.assign(**about))  # type: ignore[arg-type]
        frames["checkpoints"].append(chosen.assign(**about))  # type: ignore[arg-type]
        for step in sorted(set(chosen["step"])):
            generator = torch.Generator().manual_seed(derived_seed(seed, "probe", run.name, step))
            for table, frame in at_checkpoint(config, run, run.model(step), probe, generator).items():
                frames[table].append(frame.assign(run=run.name, step=step))
        if config.super_classes:
            groups, kingdoms = groups_of(config.super_classes, run.experiment.classes)
            frames["groups"].append(
                pd.DataFrame({"class": range(len(groups)), "super_class": groups, "kingdom": kingdoms, "run": run.name})
            )
        if config.starts:
            frames["starts"].append(starts(run, probe).assign(run=run.name))
        progress(number + 1, len(runs))
    return columns.pack({name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()})


def tables(config: StiffnessConfig, parts: Sequence[Arrays]) -> Tables:
    """``losses`` (every kept step), ``checkpoints`` (what was measured, and why), ``summary``, ``classes`` and, where asked for,
    ``lengths``, ``curves``, ``domains``, ``levels``, ``contrasts``, ``groups``, ``starts``; see ``stiffness_probe``.
    """
    return {name: _run_and_step_first(table) for name, table in columns.unpack(parts).items()}


def _run_and_step_first(table: pd.DataFrame) -> pd.DataFrame:
    first = [name for name in ("run", "step") if name in table]
    return table[[*first, *(name for name in table if name not in first)]]


def probe_of(config: StiffnessConfig, run: TrainedRun) -> Probe:
    """The fixed, class-balanced examples; of a run with random labels they are balanced in those."""
    parts = [(run.experiment.train, config.probe), (run.experiment.validation, config.validation_probe)]
    train, validation = (_balanced(examples, count, config.probe_seed) for examples, count in parts)
    return Probe(torch.cat([train.images, validation.images]), torch.cat([train.labels, validation.labels]), len(train.labels))


def _balanced(examples: Examples, count: int, seed: int) -> Examples:
    index = subset(examples.labels.cpu(), count, seed=seed).to(examples.labels.device)
    return Examples(examples.images[index], examples.labels[index])


def losses_of(run: TrainedRun) -> pd.DataFrame:
    """Loss and accuracy on the whole training and validation set at every kept step, in evaluation mode."""
    per_epoch = steps_per_epoch(run.config, len(run.experiment.train.labels))
    rows = []
    for step in run.steps:
        model = run.model(step)
        train, validation = (evaluate(model, examples) for examples in (run.experiment.train, run.experiment.validation))
        rows.append((step, step / per_epoch, *train, *validation))
    return pd.DataFrame(rows, columns=["step", "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"])


def checkpoints(config: StiffnessConfig, run: TrainedRun, losses: pd.DataFrame) -> pd.DataFrame:
    """``step`` and the training loss it stands for (``target``, nan for the steps given), with the row of ``losses``.

    Raises:
        ReplicationError: the weights of a step were not kept.
    """
    for step in config.steps:
        if step not in run.steps:
            raise ReplicationError(f"Run {run.name} did not keep the weights of step {step}; kept: {run.steps}. Add it to keep.")
    wanted = [(step, float("nan")) for step in config.steps]
    for target in config.losses:
        reached = losses["train_loss"] <= target
        fallen = losses[: int(reached.argmax()) + 1] if reached.any() else losses  # not after a later spike of the loss
        away = (np.log(fallen["train_loss"]) - np.log(target)).abs()
        wanted.append((int(losses["step"][away.idxmin()]), target))
    return pd.DataFrame(wanted, columns=["step", "target"]).merge(losses, on="step")


def at_checkpoint(
    config: StiffnessConfig, run: TrainedRun, model: nn.Module, probe: Probe, generator: torch.Generator
) -> dict[str, pd.DataFrame]:
    """The tables of one network."""
    grams = stiffness_probe.with_all_but_last(gram(model, probe.images, probe.labels, per_layer=config.layers))
    total = grams[TOTAL]
    frames = {
        "summary": stiffness_probe.summary(grams, probe, generator=generator),
        "classes": stiffness_probe.class_tables(grams, probe, generator=generator),
    }
    if config.representations:
        views = representations(config, run, model, probe)
        distances_in = {name: distances(view) for name, view in views.items()}
        frames["lengths"] = stiffness_probe.lengths(total, probe, distances_in["input"], generator=generator, resamples=config.resamples)
        curves = {name: stiffness_probe.curve(total, probe, 1 - d, generator=generator) for name, d in distances_in.items()}
        frames["curves"] = pd.concat([table.assign(representation=name) for name, table in curves.items()], ignore_index=True)
        frames["domains"] = pd.DataFrame([{"representation": name, **stiffness_probe.domain(table)} for name, table in curves.items()])
    if config.super_classes:
        groups = groups_of(config.super_classes, run.experiment.classes)
        frames["levels"], frames["contrasts"] = stiffness_probe.group_tables(
            total, probe, *groups, generator=generator, permutations=config.permutations
        )
    return frames


def representations(config: StiffnessConfig, run: TrainedRun, model: nn.Module, probe: Probe) -> dict[str, Tensor]:
    """The training examples as the network sees them: ``input``, ``pixels`` (black is zero, so nothing is centred), modules' outputs."""
    images = probe.images[: probe.n_train]
    return {"input": images, "pixels": images - run.experiment.black} | layer_outputs(model, images, config.representations)


def starts(run: TrainedRun, probe: Probe) -> pd.DataFrame:
    """Stiffness before training, by initialisation and scaling of the inputs, on which the value between classes depends strongly."""
    glorot = run.model(0)
    if hasattr(glorot, "sphere"):
        glorot.sphere = nn.Identity()
    images = probe.images[: probe.n_train]
    scalings = {"standardised": images, "unit sphere": UnitSphere()(images)}
    rows = []
    for initialisation, model in (("glorot", glorot), ("torch", _torch_initialised(glorot, run.seed))):
        for scaling, scaled in scalings.items():
            scaled_probe = Probe(scaled, probe.labels[: probe.n_train], probe.n_train)
            grams = gram(model, scaled, scaled_probe.labels, per_layer=False)
            generator = torch.Generator().manual_seed(derived_seed(run.seed, "start"))
            table = stiffness_probe.summary(grams, scaled_probe, generator=generator)
            rows.append(table.assign(initialisation=initialisation, scaling=scaling))
    return pd.concat(rows, ignore_index=True)


def _torch_initialised(model: nn.Module, seed: int) -> nn.Module:
    """A copy under PyTorch's own initialisation, whose biases are not zero; drawn on the CPU, so that every device has the same."""
    device = next(model.parameters()).device
    duplicate = copy.deepcopy(model).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "torch initialisation"))
        for module in duplicate.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
    return duplicate.to(device)
