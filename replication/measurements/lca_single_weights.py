"""Loss change allocated to single parameters in a few iterations, as images (LCA, Figure 2).

A is divided by a colour scale, one per layer for all iterations: green helps, red hurts, and what is below ``WHITE`` of the scale
is white.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from replication.errors import ReplicationError
from replication.lca import allocation as lca
from replication.objective.objective import Objective
from replication.objective.vector import Slot

SCALE_PERCENTILE = 95.0  # of abs(A) over a layer's kernel and all frames; what is beyond has full colour
WHITE = 0.05  # of the colour scale: paler than the eye tells from white
COUNTS = ("parameters", "helping", "hurting", "white", "exactly_zero", "non_finite")


@dataclass(frozen=True)
class Frames:
    """Allocations of a few steps.

    Attributes:
        steps: ``[n_frames]``.
        change: A, float64 ``[n_frames, n_parameters]``; ``shuffled`` is the control with gradients permuted over all parameters.
        losses: at the start of each step ``[n_frames]``.
        errors: what the integration missed ``[n_frames]``, in loss units.
    """

    steps: np.ndarray
    change: np.ndarray
    shuffled: np.ndarray
    losses: np.ndarray
    errors: np.ndarray


def spread_steps(n_steps: int, frames: int) -> list[int]:
    """At most ``frames`` steps of ``range(n_steps)``, evenly spread over the logarithm of 1, ..., n_steps, the first and last included."""
    return np.unique(np.geomspace(1, n_steps, frames).round().astype(int) - 1).tolist()


def allocate(objective: Objective, trajectory: Any, steps: Sequence[int], *, progress: Callable[[int, int], None] | None = None) -> Frames:
    """Allocate single steps of a trajectory ``[T + 1, n_parameters]`` with ``lca.allocate``.

    Raises:
        ReplicationError: a step lies outside of the trajectory, or its rows have another length.
    """
    if not steps or min(steps) < 0 or max(steps) >= len(trajectory) - 1:
        raise ReplicationError(f"The steps are {list(steps)}; allowed: at least one within range(0, {len(trajectory) - 1}).")
    rows: dict[str, list[Any]] = {"change": [], "shuffled": [], "losses": [], "errors": []}
    for done, step in enumerate(steps, start=1):
        start, end = (lca.row(trajectory, at, objective) for at in (step, step + 1))
        allocation = lca.allocate(objective, start, end)
        # by the step's number, as in lca.along
        permutation = torch.randperm(objective.n_parameters, generator=torch.Generator().manual_seed(step))
        shuffled = allocation.mean_gradient[permutation.to(objective.device)] * allocation.movement
        rows["change"].append(allocation.change.cpu().numpy())
        rows["shuffled"].append(shuffled.cpu().numpy())
        rows["losses"].append(allocation.loss_start)
        rows["errors"].append(allocation.error)
        if progress is not None:
            progress(done, len(steps))
    return Frames(np.array(steps), **{name: np.array(values) for name, values in rows.items()})


def colour_scale(change: np.ndarray) -> float:
    """The ``SCALE_PERCENTILE`` of abs(A) over finite elements; nan where there is none."""
    sizes = np.abs(change[np.isfinite(change)])
    return float(np.percentile(sizes, SCALE_PERCENTILE)) if len(sizes) else np.nan


def counts(change: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Of A ``[n_frames, n]``: how many parameters are what ``COUNTS`` names, ``[n_frames, len(COUNTS)]``.

    ``scale`` is one for all frames or one per frame ``[n_frames, 1]``. White is finite and below ``WHITE`` of the scale, or zero.
    """
    finite = np.isfinite(change)
    white = (np.abs(change) < WHITE * np.asarray(scale)) | (change == 0)
    columns = [np.ones_like(finite), finite & (change < 0) & ~white, finite & (change > 0) & ~white, white, change == 0, ~finite]
    return np.stack([column.sum(axis=1) for column in columns], axis=1)


def kernels(layout: Sequence[Slot]) -> list[Slot]:
    """The weight matrices, in order.

    Raises:
        ReplicationError: there is none.
    """
    found = [slot for slot in layout if len(slot.shape) == 2]
    if not found:
        raise ReplicationError("The network has no linear layer to show as an image; choose a fully connected one.")
    return found
