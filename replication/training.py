"""The one training loop.

Everything random is a function of the seed and of the place where it is used, never of what was drawn before, so a run
that is killed and continued ends with the same bits: only weights, optimiser state and log have to be saved.
"""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from replication.data import Examples, Experiment
from replication.records import atomic, write_tables
from replication.schema import OptimizerConfig, RunConfig

LOG_COLUMNS = ("loss", "accuracy")
_RESUME = "resume.safetensors"
_PARTIAL = "trajectory.partial.npy"


def derived_seed(seed: int, *words: str | int) -> int:
    """A seed for one use of randomness: the same for the same seed and words, unrelated for others."""
    text = "/".join(str(part) for part in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def batch_indices(step: int, n_examples: int, batch_size: int, seed: int) -> Tensor:
    """Examples of the mini-batch of ``step``: a new permutation each epoch, its remainder dropped (LCA specification, 2.1)."""
    epoch, position = divmod(step, n_examples // batch_size)
    return _epoch_order(n_examples, epoch, seed)[position * batch_size : (position + 1) * batch_size]


@functools.lru_cache(maxsize=1)
def _epoch_order(n_examples: int, epoch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(n_examples, generator=generator)


def learning_rate(config: RunConfig, step: int) -> float:
    """The rate of the optimizer times the factor of the latest step of the schedule that was reached."""
    reached = [at for at in config.schedule if at <= step]
    return config.optimizer.lr * (config.schedule[max(reached)] if reached else 1.0)


def kept_steps(config: RunConfig, n_examples: int) -> list[int]:
    """After how many steps the weights are kept; the initial ones are 0, the final ones always last."""
    if config.keep == "every_step":
        return list(range(config.steps + 1))
    if config.keep == "every_epoch":
        return sorted({*range(0, config.steps, n_examples // config.batch_size), config.steps})
    return sorted({*config.keep, config.steps})


def build_optimizer(config: OptimizerConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD is the heavy ball v <- m v + g, theta <- theta - lr v; Adam has PyTorch's betas .9/.999 and epsilon 1e-8."""
    if config.name == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training left in its folder.

    Attributes:
        steps: the kept steps, one per row of ``trajectory.npy``.
        seconds: time of the loop in the process that ended it.
        resumed_at: the step from which that process went on; 0 where it started afresh.
        non_finite_at: first step whose mini-batch loss was not finite, or None.
    """

    steps: list[int]
    seconds: float
    resumed_at: int
    non_finite_at: int | None


def train(
    model: nn.Module,
    experiment: Experiment,
    config: RunConfig,
    *,
    seed: int,
    folder: Path,
    identity: str = "",
    save_every_s: float = 20.0,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train ``model`` in place and write its log, kept weights and final weights into ``folder``.

    Files: ``tables/`` with log.csv (mini-batch loss and accuracy per step) and evaluation.csv (validation and test set),
    ``trajectory.npy`` (float32 ``[n_kept, n_parameters]``) and ``weights.safetensors`` (final). While it runs, ``folder``
    also holds the state to resume from; a state of another ``identity`` (configuration, code or data) is not used.

    Args:
        save_every_s: seconds between two saved states.
        progress: called with (steps done, steps in all).
    """
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = experiment.train.images, experiment.train.labels
    evaluated = set(np.linspace(0, config.steps, config.evaluations + 1).round().astype(int)[1:].tolist())
    optimizer = build_optimizer(config.optimizer, list(model.parameters()))
    log = torch.full((config.steps, len(LOG_COLUMNS)), torch.nan, dtype=torch.float64, device=images.device)
    evaluations: list[tuple[int, str, float, float]] = []
    kept = kept_steps(config, len(labels))
    first = _resume(folder, identity, model, optimizer, log, evaluations)
    trajectory = _open_trajectory(folder, len(kept), model, fresh=first == 0)
    rows = {step: row for row, step in enumerate(kept)}
    if first == 0 and 0 in rows:
        trajectory[0] = _flat(model)
    started = saved = time.monotonic()
    for step in range(first, config.steps):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        batch = batch_indices(step, len(labels), config.batch_size, seed).to(images.device)
        outputs, targets = model(images[batch]), labels[batch]
        loss = F.cross_entropy(outputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        log[step, 0], log[step, 1] = loss.detach(), (outputs.argmax(1) == targets).double().mean()
        done = step + 1
        if done in rows:
            trajectory[rows[done]] = _flat(model)
        if done in evaluated:
            evaluations += [(done, split, *evaluate(model, getattr(experiment, split))) for split in ("validation", "test")]
        if time.monotonic() - saved > save_every_s or done == config.steps:
            trajectory.flush()
            _save(folder, identity, done, model, optimizer, log, evaluations)
            saved = time.monotonic()
        if progress is not None:
            progress(done, config.steps)
    seconds = time.monotonic() - started
    _finish(folder, model, log, evaluations, trajectory)
    broken = (~log[:, 0].isfinite()).nonzero().flatten().tolist()
    return Trained(kept, seconds, first, broken[0] if broken else None)


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, *, chunk: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy (float64 sum) and accuracy in [0, 1] in evaluation mode; nan where there are no examples."""
    if len(examples.labels) == 0:
        return float("nan"), float("nan")
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in zip(examples.images.split(chunk), examples.labels.split(chunk), strict=True):
        outputs = model(images)
        loss += F.cross_entropy(outputs.double(), labels, reduction="sum").item()
        correct += int((outputs.argmax(1) == labels).sum())
    return loss / len(examples.labels), correct / len(examples.labels)


def _flat(model: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).cpu().numpy()


def _open_trajectory(folder: Path, n_rows: int, model: nn.Module, *, fresh: bool) -> np.memmap:
    path = folder / _PARTIAL
    shape = (n_rows, sum(p.numel() for p in model.parameters()))
    return np.lib.format.open_memmap(path, mode="w+" if fresh else "r+", dtype=np.float32, shape=shape if fresh else None)


def _save(
    folder: Path,
    identity: str,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    log: Tensor,
    evaluations: list[tuple[int, str, float, float]],
) -> None:
    """Everything that the next process needs, in one file, so that it is all of one moment."""
    tensors = {f"model.{name}": value.detach().contiguous() for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    tensors["log"] = log[:step].clone()
    metadata = {"identity": identity, "step": str(step), "evaluations": json.dumps(evaluations)}
    with atomic(folder / _RESUME) as temporary:
        temporary.write_bytes(save(tensors, metadata))  # save_file hides a full disk and writes under a name of its own


def _resume(
    folder: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    log: Tensor,
    evaluations: list[tuple[int, str, float, float]],
) -> int:
    """Load the saved state into the given objects and return its step; 0 where there is none that fits."""
    path = folder / _RESUME
    try:
        with safe_open(path, "pt") as handle:
            metadata: dict[str, str] = handle.metadata()
        if metadata["identity"] != identity or not (folder / _PARTIAL).is_file():
            return 0
        tensors = load_file(path, device=str(log.device))
    except (FileNotFoundError, SafetensorError, KeyError, TypeError):
        return 0
    model.load_state_dict({key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")})
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    step = int(metadata["step"])
    log[:step] = tensors["log"]
    evaluations += [tuple(entry) for entry in json.loads(metadata["evaluations"])]
    return step


def _finish(folder: Path, model: nn.Module, log: Tensor, evaluations: list[tuple[int, str, float, float]], trajectory: np.memmap) -> None:
    table = pd.DataFrame(log.cpu().numpy(), columns=list(LOG_COLUMNS))
    table.insert(0, "step", np.arange(1, len(table) + 1))
    evaluation = pd.DataFrame(evaluations, columns=["step", "split", "loss", "accuracy"])
    write_tables(folder / "tables", {"log": table, "evaluation": evaluation}, {"kind": "training log"})
    with atomic(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    trajectory.flush()
    (folder / _PARTIAL).replace(folder / "trajectory.npy")
    (folder / _RESUME).unlink(missing_ok=True)
