"""Sampled loss change allocation: sums over tensors estimated from a fresh random subset of the training set in every step.

Where only sums over layers are wanted, the full-set gradient is wasteful: the mean over a random subset is an unbiased
estimate of it with a standard error. Beyond the paper, which always uses the whole set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.lca import check_steps, row
from replication.lca_books import Books
from replication.objective import Objective


@dataclass
class SampledLedger(Books):
    """Estimates per step, of parameter tensors and of layers.

    Attributes:
        names: of the parameter tensors and then of the layers, in order.
        kinds: "tensor" or "layer" for each name.
        sizes: parameters of each.
        steps: ``[n_steps]``.
        groups: ``[n_steps]``: number of groups that a step's standard errors come from.
        lca: ``[n_steps, n_names]``: estimate of the sum of A.
        standard_error: ``[n_steps, n_names]``: from the spread between groups of the step's subset; a layer's is of its own sum,
            since its tensors' errors go together.
    """

    PER_NETWORK = ("names", "kinds", "sizes")
    PER_STEP = ("steps", "groups", "lca", "standard_error")

    kinds: list[str]
    groups: np.ndarray
    lca: np.ndarray
    standard_error: np.ndarray

    def tables(self) -> dict[str, pd.DataFrame]:
        """Tidy tables ``tensors`` and ``layers``, each with a row per step and tensor or layer."""
        n_steps, n_names = self.lca.shape
        columns = {
            "step": np.repeat(self.steps, n_names),
            "kind": np.tile(self.kinds, n_steps),
            "name": np.tile(self.names, n_steps),
            "parameters": np.tile(self.sizes, n_steps),
            "lca": self.lca.ravel(),
            "standard_error": self.standard_error.ravel(),
            "groups": np.repeat(self.groups, n_names),
        }
        table = pd.DataFrame(columns)
        rows = {
            f"{kind}s": table[table["kind"] == kind].rename(columns={"name": kind}).drop(columns="kind") for kind in ("tensor", "layer")
        }
        return {name: part.reset_index(drop=True) for name, part in rows.items()}


def along(
    objective: Objective,
    trajectory: Any,
    *,
    examples: int,
    groups: int = 10,
    seed: int = 0,
    fresh: bool = True,
    intervals: int = 2,
    steps: range | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SampledLedger:
    """Estimate the sum of A over every parameter tensor and step by Simpson's rule on a random subset.

    A step's subset is drawn without replacement from the objective's examples and is the same at all points of the step; it is cut into
    ``groups`` equal parts, and the spread of their estimates gives the standard error (with the finite-population factor 1 - m / N).
    The subset is a function of the seed and the step's number, so it does not depend on how steps are cut into spans.

    Args:
        examples: m, the size of a subset; a multiple of ``groups``.
        fresh: False draws one subset for all steps: unbiased too, but its errors in different steps go together.
        intervals: Simpson intervals of every step, an even number; there is no error estimate to refine by.
        steps, progress: as in ``lca.along``.

    Raises:
        ReplicationError: sizes that do not fit together, or steps outside of the trajectory.
    """
    n = len(objective.labels)
    if not 2 <= groups <= examples <= n or examples % groups:
        raise ReplicationError(f"examples is {examples} and groups {groups}; allowed: 2 or more groups that divide examples, at most {n}.")
    if intervals < 2 or intervals % 2:
        raise ReplicationError(f"intervals is {intervals}; allowed: 2, 4, 6, ...")
    steps = check_steps(trajectory, steps)
    layers = list(dict.fromkeys(slot.layer for slot in objective.layout))
    sizes = [slot.stop - slot.start for slot in objective.layout]
    # sums over tensors from sums over tensors, and sums over layers
    belongs = torch.tensor([[slot.layer == layer for slot in objective.layout] for layer in layers], device=objective.device).double()
    sums = torch.cat([torch.eye(len(sizes), dtype=torch.float64, device=objective.device), belongs])
    estimates, errors = [], []
    for done, step in enumerate(steps, start=1):
        start, end = row(trajectory, step, objective), row(trajectory, step + 1, objective)
        subset = _subset(n, examples, seed, step if fresh else -1)
        per_group = [_by_tensor(objective, start, end - start, members, intervals, sizes) for members in subset.chunk(groups)]
        values = torch.stack(per_group) @ sums.T
        estimates.append(values.mean(0))
        errors.append((values.var(0) / groups * (1 - examples / n)).sqrt())
        if progress is not None:
            progress(done, len(steps))
    return SampledLedger(
        names=[*(slot.name for slot in objective.layout), *layers],
        kinds=["tensor"] * len(sizes) + ["layer"] * len(layers),
        sizes=(sums.cpu() @ torch.tensor(sizes, dtype=torch.float64)).long().tolist(),
        steps=np.arange(steps.start, steps.stop),
        groups=np.full(len(steps), groups),
        lca=torch.stack(estimates).cpu().numpy(),
        standard_error=torch.stack(errors).cpu().numpy(),
    )


def _subset(n: int, m: int, seed: int, step: int) -> Tensor:
    """Indices of a step's subset ``[m]``, in random order, so that consecutive parts of it are random too."""
    return torch.from_numpy(np.random.default_rng([seed, step + 1]).choice(n, m, replace=False))


def _by_tensor(objective: Objective, start: Tensor, movement: Tensor, members: Tensor, intervals: int, sizes: list[int]) -> Tensor:
    """Composite Simpson on one group: the sum of A over each tensor ``[n_tensors]``."""
    fractions = torch.arange(intervals + 1, dtype=torch.float64, device=movement.device) / intervals
    weights = torch.full_like(fractions, 2)
    weights[1::2], weights[0], weights[-1] = 4, 1, 1
    gradients = objective.gradients_on(start + fractions[:, None] * movement, members)
    change = (weights @ gradients) / (3 * intervals) * movement
    return torch.stack([part.sum() for part in change.split(sizes)])
