"""A finished training as measurements read it: its data, its network at kept steps, its log."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from replication import models
from replication.data.examples import Dataset, Experiment, assemble
from replication.errors import ReplicationError
from replication.files.tables import read_tables
from replication.objective.objective import Objective
from replication.schema.runs import MeanStd, RunConfig
from replication.seeds import derived_seed
from replication.training.batches import kept_steps
from replication.training.checkpoints import load_row
from replication.training.evaluation import steps_at_losses


def experiment_of(config: RunConfig, dataset: Dataset, device: torch.device) -> Experiment:
    """The examples that a run is trained and measured on.

    Example:
        >>> from replication.data.sources import read
        >>> from replication.schema.runs import DatasetConfig
        >>> config = RunConfig.model_construct(dataset=DatasetConfig(name="digits", examples=100))
        >>> experiment_of(config, read("digits"), torch.device("cpu")).train.images.shape
        torch.Size([100, 1, 8, 8])
    """
    settings = config.dataset.model_dump(exclude={"name"})
    if isinstance(pixels := config.dataset.normalisation, MeanStd):
        settings["normalisation"] = (pixels.mean, pixels.std)
    return assemble(dataset, **settings, device=device)


def initial_model(config: RunConfig, experiment: Experiment, seed: int) -> nn.Module:
    """The network of a run before its first step.

    Example:
        >>> from replication.data.sources import read
        >>> settings = {"image_size": 8, "hidden": [20]}
        >>> config = RunConfig.model_construct(model="mnist_fc", model_settings=settings)
        >>> model = initial_model(config, assemble(read("digits")), seed=0)
        >>> sum(parameter.numel() for parameter in model.parameters())
        1510
    """
    channels = experiment.train.images.shape[1]
    seed = derived_seed(seed, "initialisation")
    return models.build(config.model, classes=experiment.classes, channels=channels, seed=seed, **config.model_settings)


@dataclass(frozen=True)
class TrainedRun:
    """One seed of a finished training.

    Attributes:
        name, seed, config: which run.
        folder: what ``replication.training.train`` left.
        dataset: what its examples are taken from.
        device: where its examples and networks are put.
    """

    name: str
    seed: int
    config: RunConfig
    folder: Path
    dataset: Dataset
    device: torch.device

    @cached_property
    def experiment(self) -> Experiment:
        """Training, validation and test examples."""
        return experiment_of(self.config, self.dataset, self.device)

    @cached_property
    def steps(self) -> list[int]:
        """After how many steps the weights were kept; the last ones are the final weights."""
        return kept_steps(self.config, len(self.experiment.train.labels))

    @cached_property
    def trajectory(self) -> np.ndarray:
        """Parameters at the kept steps, a memory map ``[n_kept, n_parameters]``, float32."""
        return np.load(self.folder / "trajectory.npy", mmap_mode="r")

    def model(self, step: int | None = None) -> nn.Module:
        """The network after ``step`` steps (the last ones by default) in evaluation mode, with batch norm's running statistics.

        Raises:
            ReplicationError: the weights of that step were not kept.
        """
        step = self.config.steps if step is None else step
        if step not in self.steps:
            raise ReplicationError(f"Run {self.name} did not keep the weights of step {step}; kept: {self.steps}. Add it to keep.")
        model = initial_model(self.config, self.experiment, self.seed)
        load_row(model, self.folder, self.steps.index(step))
        return model.to(self.device).eval()

    @cached_property
    def steps_at_losses(self) -> dict[float, int]:
        """For each loss of ``stop_at_losses`` that was reached, the step at whose evaluation of the training set it was."""
        stops = self.config.stop_at_losses
        rows = self.log()["evaluation"].itertuples(index=False, name=None)
        return dict(zip(stops.values if stops else (), steps_at_losses(self.config, rows), strict=False))  # not all may be reached

    def model_at_loss(self, loss: float) -> nn.Module:
        """The network when the training set's loss was first seen at or below ``loss``, in evaluation mode.

        Args:
            loss: one of the run's ``stop_at_losses``.

        Raises:
            ReplicationError: the run did not reach that loss, or does not keep weights at it.
        """
        reached = list(self.steps_at_losses)
        if loss not in reached:
            raise ReplicationError(
                f"Run {self.name} seed {self.seed} has no weights at the training loss {loss}; reached were {reached}: choose one of these."
            )
        model = initial_model(self.config, self.experiment, self.seed)
        load_row(model, self.folder, len(self.steps) + reached.index(loss))
        return model.to(self.device).eval()

    def objective(self, *, batch_norm: Literal["running", "batch"] = "running", chunk: int | None = None, validation: int = 0) -> Objective:
        """The loss on the training examples, or on the first ``validation`` validation examples; its own parameters are the initial ones.

        Raises:
            ReplicationError: there are fewer validation examples.
        """
        examples = self.experiment.validation if validation else self.experiment.train
        n = validation or len(examples.labels)
        if n > len(examples.labels):
            raise ReplicationError(
                f"Run {self.name} has {len(examples.labels)} validation examples and {n} are wanted; use as many or fewer."
            )
        model = initial_model(self.config, self.experiment, self.seed)
        return Objective(model, examples.images[:n], examples.labels[:n], batch_norm=batch_norm, chunk=chunk)

    def around(
        self,
        step: int | None = None,
        *,
        loss: float | None = None,
        examples: int | None = None,
        split: Literal["train", "test"] = "train",
    ) -> Objective:
        """The loss around the network after ``step`` steps (the last ones by default), with its parameters and running statistics.

        Args:
            loss: one of the run's ``stop_at_losses``, in place of ``step``: around the network that first had this training loss.
            examples: how many training (or test) examples, the first ones; all of them by default.

        Raises:
            ReplicationError: the weights of that step or loss were not kept, or there are fewer examples.
        """
        held = self.experiment.train if split == "train" else self.experiment.test
        n = len(held.labels) if examples is None else examples
        if n > len(held.labels):
            raise ReplicationError(f"Run {self.name} has {len(held.labels)} {split} examples and {n} are wanted; use as many or fewer.")
        model = self.model(step) if loss is None else self.model_at_loss(loss)
        return Objective(model, held.images[:n], held.labels[:n])

    def log(self) -> dict[str, pd.DataFrame]:
        """Tables ``log`` (mini-batch loss and accuracy per step) and ``evaluation`` (validation and test set)."""
        return read_tables(self.folder / "tables")
