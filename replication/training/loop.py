"""The one training loop.

Numbers below float32's normal range count as zero while it runs: they move weights by less than 1e-30 and cost hundreds of cycles each.

Everything random is a function of the seed and of the place where it is used, never of what was drawn before, so a training that is
killed and continued ends with the same bits: only weights, optimizer state and log have to be saved.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from replication import machine
from replication.data.examples import Experiment
from replication.errors import ReplicationError
from replication.files.tables import write_tables
from replication.objective import memory_format
from replication.schema.runs import RunConfig
from replication.training.batches import evaluated_steps, kept_steps
from replication.training.checkpoints import Checkpoint, Trajectory, write_weights
from replication.training.evaluation import evaluate, steps_at_losses
from replication.training.optimisation import build_optimizer, freeze, frozen_at, learning_rate_factor, set_learning_rates, train_mode
from replication.training.update import make_update

LOG_COLUMNS = ("loss", "accuracy")


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training left in its folder.

    Attributes:
        steps: the kept steps, one for each row of ``trajectory.npy``.
        seconds: time of the loop in the process that ended it.
        resumed_at: the step from which that process continued; 0 if it started at the beginning.
        reached: steps at which the losses of ``stop_at_losses`` were reached; their weights follow the kept steps in ``trajectory.npy``.
        non_finite_at: first step (from 1) whose mini-batch loss was not finite, or None.
        finished: False where ``stop_after_s`` ended it; the same call continues it.
        last_step: number of the last step made.
    """

    steps: list[int]
    seconds: float
    resumed_at: int
    reached: list[int]
    non_finite_at: int | None
    finished: bool
    last_step: int


def train(
    model: nn.Module,
    experiment: Experiment,
    config: RunConfig,
    *,
    seed: int,
    folder: Path,
    identity: str = "",
    save_every_s: float = 20.0,
    stop_after_s: float = float("inf"),
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train ``model`` in place and write its log, kept weights and final weights into ``folder``.

    Files: ``tables/`` with log.csv (mini-batch loss and accuracy of each step) and evaluation.csv (validation and test set, and the
    training set where ``stop_at_losses`` asks for it), ``trajectory.npy`` (float32 ``[n_kept, n_parameters]``), ``buffers.npy`` where
    the model has buffers (batch norm's running statistics at the same steps) and ``weights.safetensors`` (final). While it runs,
    ``folder`` also holds the state to resume from; a state of another ``identity`` (configuration, code or data) is not used.

    Args:
        save_every_s: seconds between two saved states.
        stop_after_s: seconds after which to save the state and end unfinished.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: fewer examples than a batch, or a layer that the model does not have.

    Example:
        >>> import tempfile
        >>> from replication.data import assemble
        >>> from replication.data.sources import read
        >>> from replication.schema.runs import OptimizerConfig
        >>> config = RunConfig.model_construct(optimizer=OptimizerConfig(name="sgd", lr=0.1), batch_size=100, steps=20)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained = train(model, assemble(read("digits")), config, seed=0, folder=Path(folder))
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['tables', 'trajectory.npy', 'weights.safetensors']
        >>> trained.steps, trained.finished
        ([20], True)
    """
    training = _Training(model, experiment, config, seed=seed, folder=folder, identity=identity)
    started = saved = time.monotonic()
    out_of_time = False
    with machine.subnormals_as_zero():
        while not training.finished and not out_of_time:
            training.make_step()
            now = time.monotonic()
            out_of_time = now - started > stop_after_s
            if now - saved > save_every_s or training.finished or out_of_time:
                training.save()
                saved = time.monotonic()
            if progress is not None:
                progress(training.done, config.steps)
    if training.finished:
        training.write_results()
    return training.result(time.monotonic() - started)


class _Training:
    """A training as far as it has come: what was saved in ``folder`` under the same identity is loaded.

    Attributes:
        done: how many steps were made.
        ended: whether it ends here, before the last step of its configuration: it diverged, or the last loss was reached.
    """

    def __init__(self, model: nn.Module, experiment: Experiment, config: RunConfig, *, seed: int, folder: Path, identity: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        n, device = len(experiment.train.labels), experiment.train.images.device
        if n < config.batch_size:
            raise ReplicationError(f"batch_size is {config.batch_size} and there are {n} training examples; make it smaller.")
        memory_format.prepare(model)
        self.model, self.experiment, self.config, self.seed, self.folder = model, experiment, config, seed, folder
        self.optimizer = build_optimizer(model, config.optimizer)
        self.log = torch.full((config.steps, len(LOG_COLUMNS)), torch.nan, dtype=torch.float64, device=device)
        self.checkpoint = Checkpoint(folder, identity, model, self.optimizer, self.log)
        self.done = self.resumed_at = self.checkpoint.load(before=lambda step: freeze(model, self.optimizer, frozen_at(config, step - 1)))
        self.kept, self.evaluated = kept_steps(config, n), evaluated_steps(config)
        self.n_losses = len(config.stop_at_losses.values) if config.stop_at_losses else 0
        self.reached = steps_at_losses(config, self.checkpoint.evaluations)
        self.trajectory = Trajectory(folder, self.kept, model, fresh=self.done == 0, n_more=self.n_losses)
        self.frozen = frozen_at(config, self.done - 1)
        self.ended = self.done > 0 and self._ends_now()
        self.forward = _compiled(model, device) if config.compile else model
        train_mode(model, self.frozen)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended or self.done == self.config.steps

    def make_step(self) -> None:
        """Make one step, and keep and evaluate what is to be kept and evaluated after it."""
        step = self.done
        if len(now := frozen_at(self.config, step)) > len(self.frozen):
            self.frozen = now
            freeze(self.model, self.optimizer, now)
            train_mode(self.model, now)
        set_learning_rates(self.optimizer, learning_rate_factor(self.config, step))
        self.log[step] = make_update(self.forward, self.optimizer, self.experiment, self.config, step, self.seed)
        self.done = step + 1
        self.trajectory.keep(self.done, self.model)
        self._look_at_training_loss()
        self.ended = self._ends_now()
        if self.done in self.evaluated or self.ended:
            self._evaluate("validation")
            self._evaluate("test")

    def _look_at_training_loss(self) -> None:
        stops = self.config.stop_at_losses
        if stops is None or self.done % stops.every:
            return
        self._evaluate("train")
        before = len(self.reached)
        self.reached = steps_at_losses(self.config, self.checkpoint.evaluations)
        for number in range(before, len(self.reached)):
            self.trajectory.keep_more(number, self.model)

    def _evaluate(self, split: str) -> None:
        self.checkpoint.evaluations.append((self.done, split, *evaluate(self.model, getattr(self.experiment, split))))
        train_mode(self.model, self.frozen)

    def _ends_now(self) -> bool:
        diverged = self.config.stop_when_non_finite and not bool(self.log[self.done - 1, 0].isfinite())
        return diverged or 0 < self.n_losses == len(self.reached)

    def save(self) -> None:
        """Save the state to resume from."""
        self.trajectory.flush()
        self.checkpoint.save(self.done)

    def write_results(self) -> None:
        """Write tables and final weights, give the trajectory its name and remove the state to resume from."""
        table = pd.DataFrame(self.log[: self.done].cpu().numpy(), columns=list(LOG_COLUMNS))
        table.insert(0, "step", np.arange(1, len(table) + 1))
        evaluation = pd.DataFrame(self.checkpoint.evaluations, columns=["step", "split", "loss", "accuracy"])
        write_tables(self.folder / "tables", {"log": table, "evaluation": evaluation}, {"kind": "training log"})
        write_weights(self.folder / "weights.safetensors", self.model)
        self.trajectory.finish()
        self.checkpoint.remove()

    def result(self, seconds: float) -> Trained:
        """What is reported to the caller."""
        non_finite = (~self.log[: self.done, 0].isfinite()).nonzero().flatten().tolist()
        return Trained(
            steps=self.kept,
            seconds=seconds,
            resumed_at=self.resumed_at,
            reached=self.reached,
            non_finite_at=non_finite[0] + 1 if non_finite else None,
            finished=self.finished,
            last_step=self.done,
        )


def _compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """The model compiled; on a GPU its kernels are launched as one graph."""
    return torch.compile(model, mode="reduce-overhead" if device.type == "cuda" else "default")  # type: ignore[return-value]
