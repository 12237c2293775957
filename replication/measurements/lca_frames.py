"""Loss change allocated to single parameters in a few iterations of one run, as images (LCA, Figure 2).

A is divided by a colour scale, one per layer for all iterations: green helps, red hurts, and what is below ``WHITE`` of the scale
is white.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from replication.errors import ReplicationError
from replication.lca.allocation import allocate
from replication.lca.path import path_of, permutation_of
from replication.measurements import Arrays, Progress, Tables
from replication.objective.objective import Objective
from replication.objective.vector import Slot
from replication.schema.lca import LcaFramesConfig
from replication.training.trained_run import TrainedRun

SCALE_PERCENTILE = 95.0  # of abs(A) over a layer's kernel and all frames; what is beyond has full colour
WHITE = 0.05  # of the colour scale: paler than the eye tells from white
COUNTS = ("parameters", "helping", "hurting", "white", "exactly_zero", "non_finite")


def measure(config: LcaFramesConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """How many parameters are coloured or white, per layer and frame; for the first seeds also A of single parameters, for images."""
    (run,) = runs
    objective = run.objective()
    frames = allocate_frames(objective, run.trajectory, spread_steps(run.config.steps, config.frames), progress=progress)
    slots = kernels(objective.layout)
    arrays: Arrays = {"steps": frames.steps, "losses": frames.losses, "errors": frames.errors}
    arrays["layers"] = np.array([slot.layer for slot in slots])
    kernel_changes = [frames.change[:, slot.slice] for slot in slots]
    shuffled_changes = [frames.shuffled[:, slot.slice] for slot in slots]
    arrays["scales"] = np.array([colour_scale(change) for change in kernel_changes])
    arrays["counts"] = np.stack([count_colours(change, colour_scale(change)) for change in kernel_changes])
    arrays["counts_shuffled"] = np.stack([count_colours(change, colour_scale(change)) for change in shuffled_changes])
    arrays["counts_own_scale"] = np.stack([count_colours(change, scale_of_each_frame(change)) for change in kernel_changes])
    if seed < config.pictured_seeds:
        for number, slot in enumerate(slots):
            units = min(config.units, slot.shape[0]) if number == 0 else slot.shape[0]
            arrays[f"image_{number}"] = kernel_changes[number].reshape(-1, *slot.shape)[:, :units]
    return arrays


def tables(config: LcaFramesConfig, parts: Sequence[Arrays]) -> Tables:
    """``frames``: loss at the start of each and integration error. ``shares``: a row per frame and layer: the colour scale, and how
    many parameters help, hurt or are white, also with gradients shuffled and with a scale for every frame. ``pixels`` (first seeds):
    A of single parameters to four digits, ``unit`` being the row of the weight matrix and ``input`` its column."""
    (arrays,) = parts
    steps, layers = arrays["steps"], arrays["layers"]
    made = {"frames": pd.DataFrame({"step": steps, "loss_start": arrays["losses"], "error": arrays["errors"]})}
    shares = pd.DataFrame({"step": np.tile(steps, len(layers)), "layer": np.repeat(layers, len(steps))})
    shares["colour_scale"] = np.repeat(arrays["scales"], len(steps))
    for name, ending in (("counts", ""), ("counts_shuffled", "_shuffled"), ("counts_own_scale", "_own_scale")):
        columns = [f"{column}{ending}" for column in COUNTS]
        shares[columns] = arrays[name].reshape(-1, len(columns))
    made["shares"] = shares.drop(columns=["parameters_shuffled", "parameters_own_scale"])
    if pixels := [_pixels(arrays[f"image_{n}"], layer, steps) for n, layer in enumerate(layers) if f"image_{n}" in arrays]:
        made["pixels"] = pd.concat(pixels, ignore_index=True)
    return made


def _pixels(image: np.ndarray, layer: str, steps: np.ndarray) -> pd.DataFrame:
    frame, unit, column = (index.ravel() for index in np.indices(image.shape))
    rounded = [float(f"{value:.3e}") for value in image.ravel()]  # the picture has no more, and the table stays below ten megabytes
    return pd.DataFrame({"step": steps[frame], "layer": layer, "unit": unit, "input": column, "lca": rounded})


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
    """At most ``frames`` steps of ``range(n_steps)``, evenly spread over the logarithm of 1, ..., n_steps, the first and last included.

    >>> spread_steps(1000, 4)
    [0, 9, 99, 999]
    """
    return np.unique(np.geomspace(1, n_steps, frames).round().astype(int) - 1).tolist()


def allocate_frames(
    objective: Objective, trajectory: Any, steps: Sequence[int], *, progress: Callable[[int, int], None] | None = None
) -> Frames:
    """Allocate single steps of a trajectory ``[T + 1, n_parameters]``.

    Raises:
        ReplicationError: a step lies outside of the trajectory, or its rows have another length.
    """
    if not steps or min(steps) < 0 or max(steps) >= len(trajectory) - 1:
        raise ReplicationError(f"The steps are {list(steps)}; allowed: at least one within range(0, {len(trajectory) - 1}).")
    path = path_of(objective, trajectory)
    allocations, shuffled = [], []
    for done, step in enumerate(steps, start=1):
        allocation = allocate(objective, path.weights(step), path.weights(step + 1))
        control = allocation.mean_gradient[permutation_of(step, objective)] * allocation.movement
        allocations.append(allocation)
        shuffled.append(control.cpu().numpy())
        if progress is not None:
            progress(done, len(steps))
    return Frames(
        steps=np.array(steps),
        change=np.array([allocation.change.cpu().numpy() for allocation in allocations]),
        shuffled=np.array(shuffled),
        losses=np.array([allocation.loss_start for allocation in allocations]),
        errors=np.array([allocation.error for allocation in allocations]),
    )


def colour_scale(change: np.ndarray) -> float:
    """The ``SCALE_PERCENTILE`` of abs(A) over finite elements; nan where there is none.

    >>> colour_scale(np.array([[-100.0, 0.0], [50.0, np.nan]]))
    95.0
    """
    sizes = np.abs(change[np.isfinite(change)])
    return float(np.percentile(sizes, SCALE_PERCENTILE)) if len(sizes) else np.nan


def scale_of_each_frame(change: np.ndarray) -> np.ndarray:
    """The colour scale of every frame of A ``[n_frames, n]`` by itself, ``[n_frames, 1]``."""
    return np.array([[colour_scale(frame)] for frame in change])


def count_colours(change: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """How many parameters of A ``[n_frames, n]`` are what ``COUNTS`` names, ``[n_frames, len(COUNTS)]``.

    White is finite and below ``WHITE`` of the scale, or zero.

    Args:
        scale: one for all frames, or one per frame ``[n_frames, 1]``.

    >>> dict(zip(COUNTS, count_colours(np.array([[-1.0, 0.5, 0.01, 0.0]]), 1.0)[0].tolist()))
    {'parameters': 4, 'helping': 1, 'hurting': 1, 'white': 2, 'exactly_zero': 1, 'non_finite': 0}
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
    matrices = [slot for slot in layout if len(slot.shape) == 2]
    if not matrices:
        raise ReplicationError("The network has no linear layer to show as an image; choose a fully connected one.")
    return matrices
