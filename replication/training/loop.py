"""The one training loop.

Everything random is a function of the seed and of the place where it is used, never of what was drawn before, so a run
that is killed and continued ends with the same bits: only weights, optimizer state and log have to be saved.
"""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication import machine
from replication.data.examples import Examples, Experiment
from replication.errors import ReplicationError
from replication.files.tables import write_tables
from replication.objective import memory_format
from replication.schema.runs import RunConfig
from replication.training.augmentation import crop_and_flip
from replication.training.checkpoints import Checkpoint, Trajectory, write_weights
from replication.training.optimisation import build_optimizer, freeze, frozen_at, learning_rate_factor, set_learning_rates, train_mode

LOG_COLUMNS = ("loss", "accuracy")


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training left in its folder.

    Attributes:
        steps: the kept steps, one per row of ``trajectory.npy``.
        seconds: time of the loop in the process that ended it.
        resumed_at: the step from which that process went on; 0 where it started afresh.
        non_finite_at: first step (from 1) whose mini-batch loss was not finite, or None.
        finished: False where ``stop_after_s`` ended it; the same call continues it.
        last_step: number of the last step made.
    """

    steps: list[int]
    seconds: float
    resumed_at: int
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

    Files: ``tables/`` with log.csv (mini-batch loss and accuracy per step) and evaluation.csv (validation and test set),
    ``trajectory.npy`` (float32 ``[n_kept, n_parameters]``), ``buffers.npy`` where the model has buffers (batch norm's running
    statistics at the same steps) and ``weights.safetensors`` (final). While it runs, ``folder`` also holds the state to
    resume from; a state of another ``identity`` (configuration, code or data) is not used.

    Args:
        save_every_s: seconds between two saved states.
        stop_after_s: seconds after which to save the state and end unfinished.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: fewer examples than a batch, or a layer that the model does not have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = experiment.train
    if len(data.labels) < config.batch_size:
        raise ReplicationError(f"batch_size is {config.batch_size} and there are {len(data.labels)} training examples; make it smaller.")
    memory_format.prepare(model)
    optimizer = build_optimizer(model, config.optimizer)
    log = torch.full((config.steps, len(LOG_COLUMNS)), torch.nan, dtype=torch.float64, device=data.images.device)
    checkpoint = Checkpoint(folder, identity, model, optimizer, log)
    first = checkpoint.load(before=lambda step: freeze(model, optimizer, frozen_at(config, step - 1)))
    kept = kept_steps(config, len(data.labels))
    trajectory = Trajectory(folder, kept, model, fresh=first == 0)
    evaluated = set(np.linspace(0, config.steps, config.evaluations + 1).round().astype(int)[1:].tolist())
    forward = _compiled(model, data.images.device) if config.compile else model
    started = saved = time.monotonic()
    done, frozen = first, frozen_at(config, first - 1)
    diverged = config.stop_when_non_finite and first > 0 and not bool(log[first - 1, 0].isfinite())
    train_mode(model, frozen)
    for step in range(first, config.steps if not diverged else first):
        if len(now := frozen_at(config, step)) > len(frozen):
            frozen = now
            freeze(model, optimizer, frozen)
            train_mode(model, frozen)
        set_learning_rates(optimizer, learning_rate_factor(config, step))
        log[step] = _step(forward, optimizer, experiment, config, step, seed)
        done = step + 1
        trajectory.keep(done, model)
        diverged = config.stop_when_non_finite and not bool(log[step, 0].isfinite())
        if done in evaluated or diverged:
            checkpoint.evaluations += [(done, split, *evaluate(model, getattr(experiment, split))) for split in ("validation", "test")]
            train_mode(model, frozen)
        out_of_time = time.monotonic() - started > stop_after_s
        if time.monotonic() - saved > save_every_s or done == config.steps or out_of_time or diverged:
            trajectory.flush()
            checkpoint.save(done)
            saved = time.monotonic()
        if progress is not None:
            progress(done, config.steps)
        if out_of_time or diverged:
            break
    finished = done == config.steps or diverged
    broken = (~log[:done, 0].isfinite()).nonzero().flatten().tolist()
    trained = Trained(kept, time.monotonic() - started, first, broken[0] + 1 if broken else None, finished, done)
    if finished:
        _finish(folder, model, log[:done], checkpoint, trajectory)
    return trained


def _compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """The model compiled; on a GPU its kernels are launched as one graph."""
    return torch.compile(model, mode="reduce-overhead" if device.type == "cuda" else "default")  # type: ignore[return-value]


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, experiment: Experiment, config: RunConfig, step: int, seed: int) -> Tensor:
    """One update; returns the batch's mean loss and accuracy ``[2]``, left on the device so that nothing waits for it."""
    data = experiment.train
    batch = batch_indices(step, len(data.labels), config, seed).to(data.images.device)
    images, labels = data.images[batch], data.labels[batch]
    if config.augment.crop or config.augment.flip:
        generator = torch.Generator().manual_seed(derived_seed(seed, "augmentation", step))
        images = crop_and_flip(images, crop=config.augment.crop, flip=config.augment.flip, fill=experiment.black, generator=generator)
    optimizer.zero_grad(set_to_none=True)
    totals = torch.zeros(2, dtype=torch.float64, device=images.device)
    size = config.microbatch or len(labels)
    for part, targets in zip(images.split(size), labels.split(size), strict=True):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision_on(images.device, config) == "bfloat16"):
            outputs = model(part)
        loss = F.cross_entropy(outputs.float(), targets)
        share = len(targets) / len(labels)
        if loss.requires_grad:  # not where every layer is frozen
            (loss if share == 1 else loss * share).backward()
        totals += share * torch.stack([loss.detach().double(), (outputs.argmax(1) == targets).double().mean()])
    optimizer.step()
    return totals


def precision_on(device: torch.device, config: RunConfig) -> str:
    """Of the forward pass: as configured, but float32 where the device only emulates bfloat16."""
    return config.precision if machine.multiplies_bfloat16(device) else "float32"


def derived_seed(seed: int, *words: str | int) -> int:
    """A seed for one use of randomness: the same for the same seed and words, unrelated for others."""
    text = "/".join(str(part) for part in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def steps_per_epoch(config: RunConfig, n_examples: int) -> int:
    """Mini-batches in an epoch."""
    whole, rest = divmod(n_examples, config.batch_size)
    return whole + (1 if rest and config.last_batch == "keep" else 0)


def batch_indices(step: int, n_examples: int, config: RunConfig, seed: int) -> Tensor:
    """Examples of the mini-batch of ``step``: a new permutation each epoch."""
    epoch, position = divmod(step, steps_per_epoch(config, n_examples))
    return _epoch_order(n_examples, epoch, seed)[position * config.batch_size : (position + 1) * config.batch_size]


@functools.lru_cache(maxsize=1)
def _epoch_order(n_examples: int, epoch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(n_examples, generator=generator)


def kept_steps(config: RunConfig, n_examples: int) -> list[int]:
    """After how many steps the weights are kept; the initial ones are 0, the final ones always last."""
    if config.keep == "every_step":
        return list(range(config.steps + 1))
    if config.keep == "every_epoch":
        return sorted({*range(0, config.steps, steps_per_epoch(config, n_examples)), config.steps})
    return sorted({*config.keep, config.steps})


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, *, chunk: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy (float64 sum) and accuracy in [0, 1] in evaluation mode, float32; nan where there are no examples."""
    if len(examples.labels) == 0:
        return float("nan"), float("nan")
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in zip(examples.images.split(chunk), examples.labels.split(chunk), strict=True):
        outputs = model(images)
        loss += F.cross_entropy(outputs.double(), labels, reduction="sum").item()
        correct += int((outputs.argmax(1) == labels).sum())
    return loss / len(examples.labels), correct / len(examples.labels)


def _finish(folder: Path, model: nn.Module, log: Tensor, checkpoint: Checkpoint, trajectory: Trajectory) -> None:
    table = pd.DataFrame(log.cpu().numpy(), columns=list(LOG_COLUMNS))
    table.insert(0, "step", np.arange(1, len(table) + 1))
    evaluation = pd.DataFrame(checkpoint.evaluations, columns=["step", "split", "loss", "accuracy"])
    write_tables(folder / "tables", {"log": table, "evaluation": evaluation}, {"kind": "training log"})
    write_weights(folder / "weights.safetensors", model)
    trajectory.finish()
    checkpoint.remove()
