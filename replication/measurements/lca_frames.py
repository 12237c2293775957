"""Loss change allocated to single parameters in a few iterations of one run."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from replication.measurements import Arrays, Progress, Tables
from replication.measurements import lca_single_weights as single_weights
from replication.schema.lca import LcaFramesConfig
from replication.training.trained_run import TrainedRun


def measure(config: LcaFramesConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Counts of coloured and white parameters per layer and frame, and of the first seeds the images' numbers."""
    (run,) = runs
    objective = run.objective()
    frames = single_weights.allocate(
        objective, run.trajectory, single_weights.spread_steps(run.config.steps, config.frames), progress=progress
    )
    slots = single_weights.kernels(objective.layout)
    arrays: Arrays = {"steps": frames.steps, "losses": frames.losses, "errors": frames.errors}
    arrays["layers"] = np.array([slot.layer for slot in slots])
    arrays["scales"] = np.array([single_weights.colour_scale(frames.change[:, slot.slice]) for slot in slots])
    for name, change in (("counts", frames.change), ("counts_shuffled", frames.shuffled)):
        scales = [single_weights.colour_scale(change[:, slot.slice]) for slot in slots]
        arrays[name] = np.stack([single_weights.counts(change[:, slot.slice], scale) for slot, scale in zip(slots, scales, strict=True)])
    own = [np.array([[single_weights.colour_scale(row)] for row in frames.change[:, slot.slice]]) for slot in slots]
    arrays["counts_own_scale"] = np.stack(
        [single_weights.counts(frames.change[:, slot.slice], scale) for slot, scale in zip(slots, own, strict=True)]
    )
    if seed < config.pictured_seeds:
        for number, slot in enumerate(slots):
            units = min(config.units, slot.shape[0]) if number == 0 else slot.shape[0]
            arrays[f"image_{number}"] = frames.change[:, slot.slice].reshape(-1, *slot.shape)[:, :units]
    return arrays


def tables(config: LcaFramesConfig, parts: Sequence[Arrays]) -> Tables:
    """``frames``: loss at the start of each and integration error. ``shares``: a row per frame and layer: the colour scale, and how
    many parameters help, hurt or are white, also with gradients shuffled and with a scale for every frame. ``pixels`` (first seeds):
    A of single parameters to four digits, ``unit`` being the row of the weight matrix and ``input`` its column."""
    (arrays,) = parts
    steps, layers = arrays["steps"], arrays["layers"]
    found = {"frames": pd.DataFrame({"step": steps, "loss_start": arrays["losses"], "error": arrays["errors"]})}
    shares = pd.DataFrame({"step": np.tile(steps, len(layers)), "layer": np.repeat(layers, len(steps))})
    shares["colour_scale"] = np.repeat(arrays["scales"], len(steps))
    for name, ending in (("counts", ""), ("counts_shuffled", "_shuffled"), ("counts_own_scale", "_own_scale")):
        columns = [f"{column}{ending}" for column in single_weights.COUNTS]
        shares[columns] = arrays[name].reshape(-1, len(columns))
    found["shares"] = shares.drop(columns=["parameters_shuffled", "parameters_own_scale"])
    if pixels := [_pixels(arrays[f"image_{n}"], layer, steps) for n, layer in enumerate(layers) if f"image_{n}" in arrays]:
        found["pixels"] = pd.concat(pixels, ignore_index=True)
    return found


def _pixels(image: np.ndarray, layer: str, steps: np.ndarray) -> pd.DataFrame:
    frame, unit, column = (index.ravel() for index in np.indices(image.shape))
    rounded = [float(f"{value:.3e}") for value in image.ravel()]  # the picture has no more, and the table stays below ten megabytes
    return pd.DataFrame({"step": steps[frame], "layer": layer, "unit": unit, "input": column, "lca": rounded})
