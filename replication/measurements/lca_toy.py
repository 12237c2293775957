"""Exact loss change allocation on two-parameter losses."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication import lca
from replication.lca.ledger import STEP_COLUMNS, TENSOR_COLUMNS
from replication.measurements import Arrays, Progress, Tables, lca_toy_losses
from replication.objective.objective import Objective
from replication.schema.lca import LcaToyConfig
from replication.training.trained_run import TrainedRun

COUPLING = 0.5
_MAX_ERROR = 1e-12  # the losses are quadratic, for which Simpson's rule is exact


def measure(config: LcaToyConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Path and books of the idle parameter; allocations of the oscillation at every delay, and without coupling at the last one."""
    path = lca_toy_losses.idle_path(config.steps, torch.Generator().manual_seed(seed))
    arrays = {"path": path.numpy(), **_books(lca_toy_losses.idle(), path, "idle")}
    cases = [(delay, COUPLING) for delay in config.delays] + [(config.delays[-1], 0.0)]
    for number, (delay, coupling) in enumerate(cases):
        path = lca_toy_losses.oscillation_path(config.oscillation_steps, delay, coupling=coupling, first=seed)
        arrays |= _books(lca_toy_losses.oscillation(coupling), path, f"oscillation_{number}")
        progress(number + 1, len(cases))
    return arrays | {"cases": np.array(cases)}


def _books(objective: Objective, path: Tensor, name: str) -> Arrays:
    ledger = lca.along(objective, path, max_error=_MAX_ERROR)
    return {f"{name}_tensors": ledger.per_tensor, f"{name}_steps": ledger.per_step}


def tables(config: LcaToyConfig, parts: Sequence[Arrays]) -> Tables:
    """``path``: the weights of the first toy; ``idle`` and ``oscillation``: a row per step with the allocation to each parameter.

    ``oscillation`` has the delay of theta_2, its momentum, the coupling and the exact allocation per step far from the start.
    """
    (arrays,) = parts
    path = pd.DataFrame(arrays["path"], columns=["theta_1", "theta_2"]).rename_axis("step").reset_index()
    found = []
    for number, (delay, coupling) in enumerate(arrays["cases"]):
        exact = lca_toy_losses.steady_allocation(delay, coupling)
        about = {"delay": delay, "momentum": lca_toy_losses.momentum_of(delay), "coupling": coupling, "steady_theta_2": exact}
        found.append(_steps(arrays, f"oscillation_{number}").assign(**about))
    return {"path": path, "idle": _steps(arrays, "idle"), "oscillation": pd.concat(found, ignore_index=True)}


def _steps(arrays: Arrays, name: str) -> pd.DataFrame:
    table = pd.DataFrame(arrays[f"{name}_steps"], columns=list(STEP_COLUMNS))[["loss_start", "loss_end"]]
    table.insert(0, "step", range(len(table)))
    for column in ("lca", "lca_shuffled"):
        for number, parameter in enumerate(("theta_1", "theta_2")):
            table[f"{column}_{parameter}"] = arrays[f"{name}_tensors"][:, number, TENSOR_COLUMNS.index(column)]
    return table
